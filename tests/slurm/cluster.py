"""A SLURM of two virtual nodes with accounting, started in a folder of its own and stopped with all that it started."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).parent
NEEDED = ("munged", "mariadbd", "mariadb-install-db", "mariadb", "slurmdbd", "slurmctld", "slurmd", "sbatch", "unshare")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where Debian has them
PATIENCE = 300  # seconds: no job takes a third of them
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


def missing() -> str | None:
    """Why no SLURM can be started here; `None` where one can."""
    lacking = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    if lacking:
        return f"no {lacking[0]} here: apt-get install slurm-wlm slurmdbd munge mariadb-server"
    if os.geteuid() != 0:
        return "slurmd runs jobs as their users, which only root can do"
    probe = subprocess.run(["unshare", "--mount", "--uts", "true"], capture_output=True, check=False)
    return None if probe.returncode == 0 else "no namespaces here, in which a node has a name of its own"


class Cluster:
    """The nodes `n1` and `n2`, of four processors each, whatever this machine has.

    Args:
        folder: of all its files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
        self.env |= {"PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf"), "MYSQL_UNIX_PORT": str(folder / "sql")}

    def start(self) -> None:
        """Start munge, the accounts, the controller and both nodes, each as a child of this process."""
        folder = self.folder
        names = ("controller_port", "accounting_port", "n1_port", "n2_port")
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        for name in ("slurm.conf", "slurmdbd.conf"):
            text = (HERE / name).read_text()
            for word, value in {"folder": folder, **ports}.items():
                text = text.replace(f"{{{word}}}", str(value))
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        (folder / "hosts").write_text("127.0.0.1 localhost n1 n2\n" + Path("/etc/hosts").read_text())
        munge = {name: folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        own = [f"--{'socket' if name == 'socket' else f'{name}-file'}={path}" for name, path in munge.items()]
        self.daemon("munged", "--foreground", "--force", f"--key-file={folder / 'munge.key'}", *own)

        data = folder / "mysql"
        plain = ["--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"]
        self.run("mariadb-install-db", "--no-defaults", f"--datadir={data}", *plain)
        sql = ["--no-defaults", f"--socket={folder / 'sql'}"]
        small = ["--skip-networking", "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900"]
        self.daemon("mariadbd", *sql, "--user=root", f"--datadir={data}", f"--pid-file={folder / 'sql.pid'}", *small)
        grant = "create user slurm@localhost identified by 'losslab'; grant all on *.* to slurm@localhost"
        self.until(lambda: self.tried("mariadb", *sql, "-e", grant), "the accounts' database")
        self.daemon("slurmdbd", "-D")
        self.until(lambda: answers(ports["accounting_port"]), "slurmdbd")
        self.daemon("slurmctld", "-D")
        for node in ("n1", "n2"):
            named = f"mount --bind {folder / 'hosts'} /etc/hosts && hostname {node} && exec slurmd -D -N {node}"
            self.daemon("unshare", "--mount", "--uts", "sh", "-c", named)
        self.until(lambda: self.run("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == "2", "the nodes")

    def daemon(self, *command: str) -> None:
        """Start one, in the foreground of a session of its own."""
        with (self.folder / f"{command[0]}-{len(self.daemons)}.out").open("w") as out:
            self.daemons.append(
                subprocess.Popen(command, env=self.env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
            )

    def run(self, *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
        """What a command says that must succeed."""
        done = subprocess.run(
            command, cwd=cwd, env={**self.env, **(env or {})}, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def tried(self, *command: str) -> bool:
        """Whether a command succeeds."""
        return subprocess.run(command, env=self.env, capture_output=True, check=False).returncode == 0

    def until(self, happens: Callable[[], bool], what: str, job: str | None = None) -> None:
        """Wait for something, in vain where the machine hangs; of a job, that tells where it stands."""
        deadline = time.monotonic() + PATIENCE
        while not happens():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not in {PATIENCE} s{self.told(job) if job else ''}")
            for daemon in self.daemons:
                assert daemon.poll() is None, f"{daemon.args!r} ended while {what} was waited for: see {self.folder}"
            time.sleep(0.1)

    def state(self, job: str) -> str:
        """Of a job: PENDING, RUNNING, COMPLETED and so on."""
        return self.shown(job, "JobState")

    def shown(self, job: str, key: str) -> str:
        """What SLURM knows of a job; of one that is an array, of its first."""
        return self.run("scontrol", "show", "job", job, "--oneliner").split(f" {key}=")[1].split()[0]

    def told(self, job: str) -> str:
        """The state of a job, why it waits, and all that it printed."""
        out = Path(self.shown(job, "StdOut"))
        printed = out.read_text() if out.is_file() else "nothing"
        return f"; it is {self.state(job)} ({self.shown(job, 'Reason')}) and printed\n{printed}"

    def ends(self, job: str) -> str:
        """How a job ends."""
        self.until(lambda: self.state(job) in OVER, f"the end of job {job}", job)
        return self.state(job)

    def stop(self) -> None:
        """Cancel all jobs, and end all that was started, the last one first."""
        if len(self.daemons) > 4:
            self.tried("scancel", "--full", "--signal=KILL", "--user=root")
            self.tried("scancel", "--user=root")
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(daemon.pid, signal.SIGKILL)
                daemon.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(found.getsockname()[1]) for found in sockets]
    for found in sockets:
        found.close()
    return ports


def answers(port: int) -> bool:
    """Whether someone listens on a port."""
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0

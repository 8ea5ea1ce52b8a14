"""How commands end when the machine is unkind: closed pipes, full disks, folders that go, files one may not read."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch
from PIL import Image

from losslab import errors
from losslab.build import build
from losslab.config import arguments, check
from losslab.config.arguments import quote_value, read_value
from losslab.files import write_together
from tests.compare.written import run
from tests.hostile import TINY
from tests.processes import Fork, caught, python

RUN = [*TINY, "output_dir=outputs"]


def runs(folder: Path) -> None:
    """Two runs that can be compared."""
    for loss in ("mse", "mae"):
        run(folder, 0.5, loss=loss)


def said(fork: Fork, code: int) -> str:
    """What a command says to standard error at its end."""
    out, err = fork.communicate(100)
    assert fork.wait() == code, out + err
    assert "Traceback" not in err
    return err


def without_reader(number: int, *words: str) -> Callable[[], None]:
    """A command whose output, or errors, nobody reads."""

    def does() -> None:
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, number)
        stream = os.fdopen(number, "w", 1, closefd=False)
        if number == 1:
            sys.stdout = stream
        else:
            sys.stderr = stream
        python("-m", "losslab", *words)()

    return does


@pytest.mark.system
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("words", [["--help"], ["compare", "runs"], ["paths", "steps=3"], RUN])
def test_a_command_outlives_its_reader(tmp_path: Path, words: list[str], number: int) -> None:
    runs(tmp_path / "runs")
    words = [word.replace("progress_bar=false", "progress_bar=true") for word in words]
    assert "roken pipe" not in said(Fork(without_reader(number, *words), tmp_path), 0)
    if words[0] == RUN[0]:
        (status,) = tmp_path.glob("outputs/*/status.json")
        assert json.loads(status.read_text())["status"] == "finished"


@pytest.mark.system
def test_a_process_begun_without_streams_ends_as_any(tmp_path: Path) -> None:
    def does() -> None:
        for number in range(3):
            os.close(number)
        sys.stdin = sys.stdout = sys.stderr = None
        python("-m", "losslab", *RUN)()

    said(Fork(does, tmp_path), 0)
    assert list(tmp_path.glob("outputs/*/summary.json"))


@pytest.mark.system
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
@pytest.mark.parametrize("words", [["card", "--help"], ["compare", "runs"], RUN])
def test_output_onto_a_full_disk_is_told(tmp_path: Path, words: list[str]) -> None:
    runs(tmp_path / "runs")

    def does() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        python("-m", "losslab", *words)()

    assert "losslab: standard output could not be written (No space left on device)" in said(Fork(does, tmp_path), 1)


def limited(size: int, *words: str) -> Callable[[], None]:
    """A command that may write no file beyond so many bytes, as on a disk that is full."""

    def does() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        python("-m", "losslab", *words)()

    return does


@pytest.mark.system
@pytest.mark.parametrize(
    ("words", "size", "file"),
    [
        (["compare", "runs"], 10_000, "runs/comparison"),
        (["card", "loss=mae"], 10_000, "card-mae.png"),
        (["paths", "steps=3"], 10_000, "paths.png"),
        (RUN, 1_000, "/config.yaml"),
    ],
)
def test_a_full_disk_is_a_sentence_and_leaves_no_half_of_a_file(
    tmp_path: Path, words: list[str], size: int, file: str
) -> None:
    runs(tmp_path / "runs")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    err = said(Fork(limited(size, *words), tmp_path), 1)
    (sentence,) = (line for line in err.splitlines() if line.startswith("losslab: "))
    assert f"{file} could not be written (File too large): free some space, or type o" in sentence
    left = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert not [path for path in left if ".part" in path.name or (path.name == Path(file).name)]
    if words[0] == "compare":
        assert not left
        assert not (tmp_path / "runs" / "comparison").exists()


def test_files_that_go_together_come_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_together(tmp_path / "page", {"a.csv": "old", "index.html": "old"})
    real, count = os.open, iter(range(100))

    def full(path: str, flags: int, *mode: int, **more: object) -> int:
        if flags & os.O_CREAT and next(count) == 1:
            raise OSError(28, "No space left on device", str(path))
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="No space left") as raised:
        write_together(tmp_path / "page", {"a.csv": "new", "index.html": "new"})
    assert raised.value.filename == str(tmp_path / "page")
    assert [file.read_text() for file in sorted((tmp_path / "page").iterdir())] == ["old", "old"]


@pytest.mark.system
@pytest.mark.parametrize("checkpoints", ["0", "1000"])
def test_a_runs_folder_that_is_deleted_meanwhile_is_a_sentence(tmp_path: Path, checkpoints: str) -> None:
    def does() -> None:
        from losslab.training.module import Experiment

        start = Experiment.on_train_epoch_start

        def delete(self: Experiment) -> None:
            if self.current_epoch == 2:
                shutil.rmtree(tmp_path / "outputs")
            start(self)

        Experiment.on_train_epoch_start = delete  # type: ignore[assignment, method-assign]
        words = [word for word in RUN if "max_epochs" not in word]
        python("-m", "losslab", *words, "trainer.max_epochs=9", f"callbacks.last.seconds={checkpoints}")()

    lines = said(Fork(does, tmp_path), 1).splitlines()
    assert len(lines) == 1, lines
    assert " is gone" in lines[0]
    assert "type the same command again" in lines[0]
    assert not (tmp_path / "outputs").exists()


def forbidden(*words: str) -> Callable[[], None]:
    """A command that may not open what is called `secret`, whoever types it."""

    def does() -> None:
        def refuse(name: str, arguments: tuple[object, ...]) -> None:
            if name == "open" and "secret" in str(arguments[0]):
                raise PermissionError(13, "Permission denied", str(arguments[0]))

        sys.addaudithook(refuse)
        python("-m", "losslab", *words)()

    return does


@pytest.mark.system
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["data=csv", "data.path=secret.csv", "data.target=y"], "data.path=secret.csv"),
        (["data=images", "data.path=images", "data.labels=secret.csv", "task=single_label"], "data.labels=secret.csv"),
        (["ckpt=theirs/secret.ckpt"], "ckpt=theirs/secret.ckpt"),
        (["ckpt=secret/last.ckpt"], "secret/status.json"),
        (["predict", "ckpt=theirs/best.ckpt", "input=secret.csv"], "input=secret.csv"),
        (["predict", "ckpt=secret/best.ckpt", "input=secret.csv"], "secret/status.json"),
        (["sweep", "secret.yaml"], "secret.yaml"),
        (["compare", "secret"], "status.json"),
    ],
)
def test_a_file_that_may_not_be_read_is_a_sentence(tmp_path: Path, words: list[str], named: str) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    for name in ("secret.csv", "secret.yaml"):
        (tmp_path / name).write_text("y,x\n1,2\n")
    weights = build(check.configure(["data=heights", "model=linear", "logger=false"])).module.state_dict()
    for name in ("theirs", "secret"):
        (tmp_path / name).mkdir()
        record = {"status": "preempted", "overrides": ["data=heights", "model=linear"]}
        (tmp_path / name / "status.json").write_text(json.dumps(record))
        for kind in ("best", "last", "secret"):
            torch.save({"state_dict": weights}, tmp_path / name / f"{kind}.ckpt")
    fork = Fork(forbidden(*words), tmp_path)
    out, err = fork.communicate(100)
    assert fork.wait() == 1, out
    assert "Traceback" not in err
    (sentence,) = (line for line in err.splitlines() if line.startswith("losslab: "))
    assert named in sentence
    assert "ermission denied" in sentence


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device"), "a file could not be written (No space left on device): free"),
        (OSError(122, "Disk quota exceeded", "a"), "a could not be written (Disk quota exceeded): free some space"),
        (OSError(30, "Read-only file system", "a"), "a is not open to you (Read-only file system)"),
        (OSError(5, "Input/output error", "a"), "a could not be read or written (Input/output error)"),
        (OSError(24, "Too many open files", "a"), "type `ulimit -n 4096` first"),
        (FileNotFoundError(2, "No such file or directory", "a"), "a is gone (No such file or directory)"),
        (MemoryError(), "there is not enough memory: type a smaller data.batch_size"),
        (OSError(12, "Cannot allocate memory"), "there is not enough memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), "not enough"),
        (RuntimeError("std::bad_alloc"), "not enough memory"),
        (RuntimeError("value cannot be converted to type at::BFloat16 without overflow"), "optimizer overflows"),
        (OverflowError(34, "Numerical result out of range"), "type a smaller optimizer.lr"),
        (RuntimeError("can't start new thread"), "not enough memory"),
        (ImportError("libx.so: failed to map segment from shared object"), "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "not enough memory",
        ),
        (
            RuntimeError(
                "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
                "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation"
            ),
            "adaptive_avg_pool2d_backward_cuda cannot give the same numbers each time on this device: type trainer.det",
        ),
        (
            RuntimeError(
                "Deterministic behavior was enabled with `torch.use_deterministic_algorithms(True)`, but this "
                "operation is not deterministic because it uses CuBLAS and you have CUDA >= 10.2."
            ),
            "cuBLAS, which this process has used before, cannot give the same numbers",
        ),
    ],
)
def test_what_the_machine_refuses_is_a_sentence_that_says_what_to_type(error: Exception, sentence: str) -> None:
    refused = errors.machine_refusal(error)
    assert sentence in str(refused)
    assert "type " in str(refused)


@pytest.mark.parametrize(
    "error", [ValueError("a"), RuntimeError("a"), KeyError("memory"), ConnectionError("a"), OverflowError("a")]
)
def test_a_bug_stays_a_bug(error: Exception) -> None:
    assert errors.machine_refusal(error) is None
    with pytest.raises(type(error)), errors.machine_errors():
        raise error


@pytest.mark.system
def test_no_memory_is_a_sentence(tmp_path: Path) -> None:
    def does() -> None:
        has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (has + 2**26, has + 2**26))
        python("-m", "losslab", *RUN, "model=mlp", "model.hidden=[20000,20000]")()

    if not Path("/proc/self/statm").is_file():
        pytest.skip("memory is limited as Linux does it")
    assert "losslab: there is not enough memory (" in said(Fork(does, tmp_path), 1)


NASTY = ("a b", "it's", "a(b)", "a=b", "a,b", "über", "-dash", "a$b", 'a"b', "`id`", "a;b", "a\\b")


@pytest.mark.parametrize("name", NASTY)
def test_a_printed_setting_is_the_same_once_a_shell_and_hydra_have_read_it(name: str) -> None:
    for text in (name, f"{name}/run/last.ckpt", f"runs/{name}", f"/{name}/"):
        word = arguments.to_paste("ckpt", text)
        shown = subprocess.run(["sh", "-c", f"printf %s {word}"], capture_output=True, text=True, check=True)
        assert read_value(shown.stdout) == text


def test_any_text_is_the_same_once_a_shell_and_hydra_have_read_it() -> None:
    chance = random.Random(0)
    texts = ["".join(chance.choices("ab/ '\"\\${}(),=[]-~*!\t`&;ü#%", k=chance.randint(1, 12))) for _ in range(500)]
    words = " ".join(arguments.to_paste("ckpt", text) for text in texts)
    shown = subprocess.run(["sh", "-c", f"printf '%s\\n' {words}"], capture_output=True, text=True, check=True)
    assert [read_value(line) for line in shown.stdout.split("\n")[:-1]] == texts


@pytest.mark.system
@pytest.mark.parametrize("name", ["a b", "it's (1), x=2 $y"])
def test_the_printed_command_goes_on_with_the_run(tmp_path: Path, name: str) -> None:
    def does() -> None:
        from losslab.training.module import Experiment

        start = Experiment.on_train_epoch_start

        def stop(self: Experiment) -> None:
            if self.current_epoch == 2:
                raise KeyboardInterrupt
            start(self)

        Experiment.on_train_epoch_start = stop  # type: ignore[assignment, method-assign]
        words = [*TINY, f"output_dir={quote_value(name)}", "trainer.max_epochs=3", "callbacks.last.seconds=0"]
        python("-m", "losslab", *words)()

    err = said(Fork(does, tmp_path), 130)
    typed = err[err.index("go on with `") + 12 : err.rindex("`")]
    shown = subprocess.run(["sh", "-c", f"printf '%s\\n' {typed}"], capture_output=True, text=True, check=True)
    *_, ckpt = shown.stdout.splitlines()
    assert shown.stdout.startswith("python\n")
    said(Fork(python("-m", "losslab", ckpt), tmp_path), 0)
    (status,) = (tmp_path / name).glob("*/status.json")
    assert json.loads(status.read_text())["status"] == "finished"


MOMENTS = random.Random(0)  # benchmarks/interrupts.py looks at all of them


@pytest.mark.system
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("words", [RUN, ["-m", *RUN, "seed=0,1"], ["card", "loss=mae"]])
def test_a_signal_while_it_imports_is_one_sentence(tmp_path: Path, words: list[str], by: signal.Signals) -> None:
    command, pipe = [sys.executable, "-m", "losslab", *words], subprocess.PIPE
    process = subprocess.Popen(command, cwd=tmp_path, text=True, stdout=pipe, stderr=pipe)
    until_heeded(process.pid)
    time.sleep(MOMENTS.uniform(0, 0.6))
    process.send_signal(by)
    _, err = process.communicate(timeout=100)
    name = "Ctrl-C" if by == signal.SIGINT else by.name
    assert (process.returncode, err) == (128 + by, f"losslab: stopped by {name} before anything began\n")


def until_heeded(pid: int) -> None:
    """Wait until a process has an answer to SIGTERM."""
    deadline = time.monotonic() + 60
    while not caught(pid, signal.SIGTERM):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def hung_up(ignored: bool) -> None:
    """A run whose terminal is closed as each of its epochs begins."""
    from losslab.training.module import Experiment

    start = Experiment.on_train_epoch_start

    def hang_up(self: Experiment) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        start(self)

    Experiment.on_train_epoch_start = hang_up  # type: ignore[assignment, method-assign]
    if ignored:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    python("-m", "losslab", *RUN)()


@pytest.mark.system
def test_a_run_whose_terminal_is_closed_goes_on_later_and_with_nohup_at_once(tmp_path: Path) -> None:
    for ignored, status, code in ((False, "preempted", 129), (True, "finished", 0)):
        said(Fork(partial(hung_up, ignored), tmp_path), code)
        (file,) = tmp_path.glob("outputs/*/status.json")
        assert json.loads(file.read_text())["status"] == status


@pytest.mark.system
@pytest.mark.parametrize(
    ("writer", "kind"),
    [("losslab.record.record.Record.keep_pictures", ".png"), ("losslab.training.jackknife.write_row_scores", ".npz")],
)
def test_what_the_disk_does_not_take_when_training_is_over_is_a_sentence(
    tmp_path: Path, writer: str, kind: str
) -> None:
    def does() -> None:
        keep = resolve_name(writer)

        def full(*all_of: Any) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
            keep(*all_of)

        place, name = writer.rsplit(".", 1)
        setattr(resolve_name(place), name, full)
        python("-m", "losslab", *RUN)()

    err = said(Fork(does, tmp_path), 1)
    (sentence,) = (line for line in err.splitlines() if line.startswith("losslab: "))
    assert f"{kind} could not be written (File too large): free some space, or type output_dir=FOLDER" in sentence
    (file,) = tmp_path.glob("outputs/*/status.json")
    status = json.loads(file.read_text())
    assert (status["status"], "File too large" in status["reason"]) == ("failed", True)
    assert not list(tmp_path.glob("outputs/**/*.part"))

"""Lines that sum up runs, one file of them instead of four files for each run.

A sweep gathers them: each of its processes appends a line to a file `.ID.gathered` beside the folders of its runs. A
run's folder stays the truth: a line counts only while the files that it sums up have the sizes and the times of writing
that it names. One that is missing, damaged or old costs only time. A file holds two kinds of lines:

    #DIGEST, tab, JSON            what runs share: settings, and the rest of the record
    RUN, tab, FACTS, tab, JSON    in what a run differs from that
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from losslab import __version__
from losslab.compare import run_folder
from losslab.compare.run_folder import Record, check_numbers, to_plain
from losslab.errors import Refused
from losslab.files import Unreadable, append, create, open_regular

SUFFIX = ".gathered"
FILES = "config.yaml", "status.json", "summary.json", "history.csv"  # what `read_run` reads
LARGEST = 2**30  # bytes of a file with lines: a million runs
FORMAT = 2  # of the lines; another one where `read_run` finds out more than it did
Both = tuple[Record, Record]  # settings, and the rest of a record


def describe_files(run: str) -> str:
    """Describe the files of a run by their sizes and times of writing, without a look into them."""
    facts = [f"{__version__}-{FORMAT}"]
    for name in FILES:
        try:
            found = os.stat(f"{run}/{name}")  # noqa: PTH116 - many thousands of them
            facts.append(f"{found.st_size}.{found.st_mtime_ns}")
        except OSError:
            facts.append("-")
    return " ".join(facts)


def differ(record: Record, shared: Record) -> Record:
    """Return what a record has other than the shared one, which has the same keys."""
    return {key: value for key, value in record.items() if type(value) is not type(shared[key]) or value != shared[key]}


class Summary:
    r"""Lines for one run after the other.

    >>> summary, first, second = Summary(), {"loss": "mae", "seed": 0}, {"loss": "mae", "seed": 1}
    >>> lines = summary.lines_of("a", "1.1", (first, {})) + summary.lines_of("b", "1.2", (second, {}))
    >>> print(lines.replace("\t", " "), end="")
    #28900e257e45e737 [{"loss": "mae", "seed": 0}, {}]
    a 1.1 ["28900e257e45e737", {}, {}]
    b 1.2 ["28900e257e45e737", {"seed": 1}, {}]
    """

    def __init__(self) -> None:
        self.digest = ""
        self.shared: Both = {}, {}

    def lines_of(self, run: str, facts: str, both: Both) -> str:
        """Return the line of a run whose files had these facts, and before it what it shares with the next, if new."""
        before = ""
        if any([*new] != [*known] for new, known in zip(both, self.shared, strict=True)) or not self.digest:
            text = json.dumps(both)
            self.digest, self.shared = hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), both
            before = f"#{self.digest}\t{text}\n"
        parts = [differ(new, known) for new, known in zip(both, self.shared, strict=True)]
        return f"{before}{run}\t{facts}\t{json.dumps([self.digest, *parts])}\n"


class Gatherer:
    """Append the lines of the runs that this process ends to a file of its own beside them."""

    def __init__(self) -> None:
        self.file, self.summary = Path(), Summary()

    def add(self, run: Path) -> None:
        """Append the line of a run that has ended; do without where that fails, as its folder says the same."""
        with suppress(OSError, ValueError, Refused):
            if self.file.parent != run.parent:
                self.file, self.summary = run.parent / f".{uuid.uuid4().hex}{SUFFIX}", Summary()
                create(self.file).close()
            facts = describe_files(str(run))
            (both,) = run_folder.read_run(str(run))
            append(self.file, self.summary.lines_of(run.name, facts, both))


class Gathered:
    """The lines beside runs, and those of runs that were read before, so that none is read twice.

    Args:
        keep: whether to keep lines of runs that are read, for another look at the same folders.
    """

    def __init__(self, keep: bool = False) -> None:
        self.keep, self.summary = keep, Summary()
        self.lines: dict[str, str] = {}  # by the run's path and the facts of its files
        self.shared: dict[str, Both] = {}
        self.fresh: dict[str, str] = {}  # by the run's path: what `find` found
        self.read_until: dict[str, int] = {}  # bytes of each file
        self.folders: set[str] = set()  # that hold runs with a line

    def find(self, folder: str, names: Iterable[str], files: Iterable[str]) -> dict[str, str]:
        """Return those folders in a folder that are runs with a line that counts, with the facts of their files."""
        for name in files:
            if name.endswith(SUFFIX):
                self.load(folder, os.path.join(folder, name))  # noqa: PTH118
        found = dict[str, str]()
        for name in names if folder in self.folders else ():
            path = os.path.join(folder, name)  # noqa: PTH118
            line = self.lines.get(f"{path}\t{(facts := describe_files(path))}")
            if line is not None and not os.path.islink(path):  # noqa: PTH114
                self.fresh[path] = line
                found[name] = facts
        return found

    def load(self, folder: str, file: str) -> None:
        """Read the lines of a file that are new since the last look."""
        with suppress(OSError, Unreadable), open_regular(file) as opened:
            if os.fstat(opened.fileno()).st_size < LARGEST:
                opened.seek(self.read_until.get(file, 0))
                for line in opened:
                    if line.endswith(b"\n"):
                        self.add(folder, line.decode(errors="replace").removesuffix("\n"))
                        self.read_until[file] = self.read_until.get(file, 0) + len(line)

    def add(self, folder: str, line: str) -> None:
        """Keep a line of a folder."""
        key, _, text = line.rpartition("\t")
        if key.startswith("#"):
            with suppress(ValueError, RecursionError, TypeError, AttributeError):
                config, rest = json.loads(text)
                check_plain(config, rest)
                self.shared[key[1:]] = config, rest
        elif "/" not in key and os.sep not in key:  # it speaks of a run in this folder
            self.folders.add(folder)
            self.lines[os.path.join(folder, key)] = text  # noqa: PTH118

    def read(self, run: str) -> Iterator[Both]:
        """Return what a run recorded: by its line if `find` has found one that counts, else from its folder."""
        if (known := self.decode(run)) is not None:
            yield known
            return
        facts = describe_files(run) if self.keep else ""
        for both in run_folder.read_run(run):
            if self.keep and both[1]["status"] != "running":
                folder, name = os.path.split(run)
                for line in self.summary.lines_of(name, facts, both).splitlines():
                    self.add(folder, line)
            yield both

    def decode(self, run: str) -> Both | None:
        """Return what the line of a run says, if `find` has found one that counts and it is whole."""
        with suppress(ValueError, RecursionError, TypeError, KeyError, AttributeError):
            digest, *parts = json.loads(self.fresh.pop(run))
            config, rest = (known | new for known, new in zip(self.shared[digest], parts, strict=True))
            check_plain(*parts)
            return config, rest
        return None


def check_plain(*parts: Record) -> None:
    """Check that a record holds what `read_run` returns.

    Raises:
        ValueError: for lists, objects and numbers without end.
    """
    for part in parts:
        check_numbers({key: value for key, value in part.items() if isinstance(value, int)})
        if any(to_plain(value) is not value for value in part.values()):
            raise ValueError("it holds more than numbers, words and booleans")

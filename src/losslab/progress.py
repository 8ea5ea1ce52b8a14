"""Progress bars: on a terminal, and in a notebook as notebooks show them."""

import sys
import warnings
from typing import Any

from tqdm import tqdm


def progress_bar(**settings: Any) -> Any:
    """Return a bar of tqdm's, which is drawn on a terminal and in a notebook, and nowhere else."""
    if "ipykernel" not in sys.modules:
        return tqdm(**settings, disable=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets it is drawn as text
        from tqdm.auto import tqdm as notebook_bar

    return notebook_bar(**settings)

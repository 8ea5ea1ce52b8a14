"""What a notebook holds becomes data, or is refused in a sentence that says what to give."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_iris
from torch.utils.data import DataLoader, TensorDataset

from losslab.api.data import give_data
from losslab.errors import Refused

PAIRS = TensorDataset(torch.ones(9, 2), torch.ones(9))
LAZY = type("LazyFrame", (), {"collect": None})()  # polars is not installed here
COLUMN = type("Series", (), {"to_pandas": None, "__getitem__": None, "__len__": None})()


@pytest.mark.parametrize(
    ("data", "target", "sentence"),
    [
        (load_iris(), None, r"data is Bunch: give \(data.data, data.target\)"),
        (DataLoader(PAIRS), None, "data is DataLoader, which makes batches: give its data.dataset"),
        (io.StringIO("a,b"), "b", "data is StringIO: give a table"),
        (LAZY, "b", r"data is LazyFrame, which is not computed yet: give data.collect\(\)"),
        (COLUMN, "b", "data is Series, one column: give a table with target"),
        (PAIRS, "b", "these data hold their targets"),
        (
            np.ones((4, 1)),
            np.ones(4),
            r"target is ndarray, and names a column of data: give its name, or data=\(x, y\)",
        ),
        ((object(), np.ones(4)), None, "data holds one object of x and 4 of y: give as many targets as rows"),
        ((np.ones((1, 2)), np.ones(4)), None, "data holds 1 row of x and 4 of y"),
    ],
)
def test_what_is_no_data_is_refused(data: Any, target: str | None, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=sentence):
        give_data(data, target, None, tmp_path)


def test_masked_numbers_are_empty_and_sparse_ones_whole(tmp_path: Path) -> None:
    x, mask = np.arange(6).reshape(3, 2), np.eye(3, 2, dtype=bool)
    for given, expected in (
        (np.ma.masked_array(x, mask), np.where(mask, np.nan, x)),
        (np.ma.masked_array(x), x),
        (sparse.csr_array(x), x),
    ):
        with np.load(give_data((given, np.ones(3)), None, None, tmp_path)["data.path"]) as held:
            np.testing.assert_array_equal(held["x"], expected)

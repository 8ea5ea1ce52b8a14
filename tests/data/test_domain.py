"""A domain is bounds on numbers, read from a loss's YAML."""

import numpy as np
import pytest
import torch

from losslab.data.dataset import Dataset
from losslab.data.domain import within
from losslab.errors import Refused

NUMBERS = np.array([-2.0, 0.0, 0.5, 1.0, np.nan])


@pytest.mark.parametrize(
    ("domain", "inside"),
    [
        (">= 0", [False, True, True, True, False]),
        ("> 0", [False, False, True, True, False]),
        ("!= 0", [True, False, True, True, False]),
        ("<= .5", [True, True, True, False, False]),
        ("> -1e0 and <1", [False, True, True, False, False]),
        (" >=0 and != 1 and <= 1", [False, True, True, False, False]),
    ],
)
def test_numbers_lie_within_all_bounds(domain: str, inside: list[bool]) -> None:
    assert within(NUMBERS, domain).tolist() == inside
    assert within(torch.from_numpy(NUMBERS), domain).tolist() == inside
    data = Dataset(np.zeros((4, 1)), NUMBERS[:4, None], {}, (1,), ["y"])
    assert data.outside(domain) == inside[:4].count(False)


@pytest.mark.parametrize("domain", ["", "positive", "= 0", ">= zero", ">= 0 or < -1", ">= 0 and", "0 <= 1"])
def test_a_domain_that_cannot_be_read_is_refused(domain: str) -> None:
    with pytest.raises(Refused, match=r'cannot be read: write bounds such as domain: ">= 0" or domain: "> 0 and <= 1"'):
        within(NUMBERS, domain)

"""Domains: bounds on numbers, such as the `domain: ">= 0"` by which a loss says which targets it takes."""

import operator
import re
from collections.abc import Callable
from typing import Any

from losslab.errors import Refused

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
BOUND = re.compile(rf"\s*({'|'.join(OPERATORS)})\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")


def parse_domain(domain: str) -> list[tuple[Callable[[Any, Any], Any], float]]:
    """Return the bounds of a domain, each as a comparison and the number to compare with.

    Raises:
        Refused: if it cannot be read.

    >>> [compare(0.5, bound) for compare, bound in parse_domain("> 0 and <= 1")]
    [True, True]
    """
    matches = [BOUND.fullmatch(part) for part in re.split(r"\band\b", str(domain))]
    bounds = [(OPERATORS[match[1]], float(match[2])) for match in matches if match]
    if len(bounds) < len(matches):
        raise Refused(
            f'domain: {domain} cannot be read: write bounds such as domain: ">= 0" or domain: "> 0 and <= 1", '
            f"each of {' '.join(OPERATORS)} and a number"
        )
    return bounds


def within(values: Any, domain: str) -> Any:
    """Return, elementwise, whether an array or tensor lies in a domain.

    >>> import numpy as np
    >>> within(np.array([-1.0, 0.5, 2.0]), ">= 0 and < 2")
    array([False,  True, False])
    """
    inside = values == values  # NaN lies in no domain
    for compare, bound in parse_domain(domain):
        inside &= compare(values, bound)
    return inside

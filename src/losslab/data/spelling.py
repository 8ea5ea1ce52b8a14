"""Cells of new rows, spelled as in the training table: another library writes 1.0 for 1, and 1 or TRUE for True."""

import re
from collections.abc import Sequence

import pandas as pd

WHOLE = re.compile(r"([+-]?(?:0|[1-9]\d*))\.0+")
FLAGS = {"true": "1", "false": "0"}


def spell_as_known(cells: "pd.Series[str]", known: Sequence[str] | None) -> "pd.Series[str]":
    """Return cells as the known category is spelled that means the same, where a cell itself is unknown.

    Args:
        cells: without spaces around them.
        known: categories of the training rows; an empty list for a column of numbers, where true and false are 1 and
            0; `None` for other cells, which stay as they are.

    >>> spell_as_known(pd.Series(["1.0", "x", "TRUE"]), ["1", "true"]).tolist()
    ['1', 'x', 'true']
    >>> spell_as_known(pd.Series(["0", "1"]), ["", "False", "True"]).tolist()
    ['False', 'True']
    >>> spell_as_known(pd.Series(["True", "False", ""]), []).tolist(), spell_as_known(pd.Series(["True", "2"]), [])[0]
    (['1', '0', ''], 'True')
    """
    if known is None:
        return cells
    if not known:
        small = cells.str.lower()
        flags = bool(small.isin({*FLAGS, ""}).all()) and bool((small != "").any())
        return small.replace(FLAGS) if flags else cells
    odd = {cell: meaning(cell) for cell in {*cells} - {*known}}
    meant: dict[str, list[str]] = {}
    for cell in known:
        meant.setdefault(meaning(cell), []).append(cell)
    if {*meant} - {""} in ({*FLAGS}, {*FLAGS.values()}):
        other = FLAGS | {digit: word for word, digit in FLAGS.items()}
        meant |= {other[each]: same for each, same in meant.items() if each}
    spelled = {cell: each[0] for cell, same in odd.items() if len(each := meant.get(same, [])) == 1}
    return cells.replace(spelled) if spelled else cells


def meaning(cell: str) -> str:
    """Return the form that all spellings of a cell share: a whole number without decimals, true or false in lower case.

    >>> meaning("1.00"), meaning("TRUE"), meaning("Owl"), meaning("007.0")
    ('1', 'true', 'Owl', '007.0')
    """
    if whole := WHOLE.fullmatch(cell):
        return whole[1]
    return cell.lower() if cell.lower() in FLAGS else cell

"""`table.tex`: the table of the cells for a paper, in LaTeX with booktabs."""

import re

import pandas as pd

from losslab.compare.claims import Findings
from losslab.compare.design import Comparison, count_failures
from losslab.compare.digits import count_decimals
from losslab.compare.settings import format_value
from losslab.compare.standing import is_sure, turn

ESCAPES = {
    **{letter: f"\\{letter}" for letter in "_%&#${}"},
    **{letter: f"{{{letter}}}" for letter in "[]*"},  # not read as an argument of the line before
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"},
    **{
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "\N{MULTIPLICATION SIGN}": r"$\times$",
        "\N{PLUS-MINUS SIGN}": r"$\pm$",
    },
}


def escape_latex(text: str) -> str:
    """Write a text so that LaTeX prints it as it is, on one line.

    >>> print(escape_latex("lr_5% {a}"))
    lr\\_5\\% \\{a\\}
    """
    return "".join(ESCAPES.get(letter, letter) for letter in re.sub(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+", " ", text))


def format_number(value: float, decimals: int | None) -> str:
    """Write a number for LaTeX's mathematics; very large and very small ones with a power of ten.

    >>> format_number(0.12345, 3), format_number(1.5e7, 0), format_number(2.5e-7, None)
    ('0.123', '1.5 \\\\times 10^{7}', '2.5 \\\\times 10^{-7}')
    """
    if decimals is not None and abs(value) < 1e6 and not (value and abs(value) < 0.5 * 10.0**-decimals):
        return f"{value:.{decimals}f}"
    mantissa, _, exponent = f"{value:.4g}".partition("e")
    return rf"{mantissa} \times 10^{{{int(exponent)}}}" if exponent else mantissa


def find_leading(comparison: Comparison, findings: Findings) -> set[str]:
    """Return the cells that the leader is not sure to beat, and the leader unless one of them beats it."""
    beaten = set()
    for pair in findings.pairs:
        if findings.leader in (pair.first, pair.second):
            beaten |= {one.second for one in (pair, turn(pair)) if is_sure(comparison, one)}
    return set(comparison.cells) - beaten


def format_latex(comparison: Comparison, findings: Findings, numbers: pd.DataFrame) -> str:
    """Write the table: options, n, mean ± half-width, median, failures; bold are cells not told from the best."""
    failures = count_failures(comparison)
    halves = ((numbers["high"] - numbers["low"]) / 2).tolist()
    decimals, leading = count_decimals(halves), find_leading(comparison, findings)
    level = f"{100 * (1 - comparison.alpha):g}"
    arrow = r"$\uparrow$" if comparison.mode == "max" else r"$\downarrow$"
    relative = ", of the mean" if comparison.mode == "min" and len(comparison.datasets) > 1 else ""
    heading = [
        *map(escape_latex, comparison.by),
        "$n$",
        f"{escape_latex(comparison.metric)}{relative} {arrow}",
        "median",
    ]
    heading += ["failed"] if failures["failed"].any() else []
    lines = [rf"{' & '.join(heading)} \\", r"\midrule"]
    for row, half in zip(numbers.to_dict("records"), halves, strict=True):
        mean = format_number(row["mean"], decimals)
        mean = rf"\mathbf{{{mean}}}" if row["cell"] in leading and len(comparison.cells) > 1 else mean
        width = rf" \pm {format_number(half, decimals)}" if half == half else ""
        cells = [escape_latex(format_value(row[key])) for key in comparison.by]
        cells += [str(row["n"]), f"${mean}{width}$", f"${format_number(row['median'], decimals)}$"]
        if failures["failed"].any():
            cells.append("{failed} of {all}".format(**failures.loc[row["cell"]]))
        lines.append(rf"{' & '.join(cells)} \\")
    population = comparison.population
    over = f"{population.noun}s{' and test rows' * population.crossed}"
    caption = (
        f"Test {comparison.metric}, mean and half-width of its {level} % interval (Student's t over {over}). "
        f"n trainings. Bold: {findings.leader}, and all that cannot be told apart from it at "
        f"{100 * comparison.alpha:g} % for all pairs together. "
        f"{population.sentence}"
    )
    columns = "l" * len(comparison.by) + "r" * (len(heading) - len(comparison.by))
    return "\n".join(
        [
            r"% In the preamble: \usepackage{booktabs}",
            f"% Caption: {escape_latex(caption)}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )

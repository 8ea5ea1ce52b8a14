"""How the figures of a comparison were computed, in words."""

from losslab.compare.costs import Target
from losslab.compare.design import Comparison
from losslab.compare.ranks import DRAWS


def describe_method(comparison: Comparison, target: Target | None, alpha: float) -> list[str]:
    """Explain in a few points how the figures of the page were computed; pairs are tested at `alpha`."""
    population, level = comparison.population, f"{100 * (1 - comparison.alpha):g} %"
    together = f"{100 * (1 - alpha):.4g} %"
    sentences = [
        describe_selection(comparison),
        f"The unit of analysis is the {population.noun}: a unit's value is the mean of its runs, and the model is "
        "cell + unit + noise.",
        "All pairs of cells, and all pairs of options as means over the options of the other key, are one family: "
        f"their intervals hold together at {together}, and p is the smallest level at which the family calls a "
        "difference real (single-step max-T, Westfall & Young 1993; the reference is simulated with normal noise in "
        "the same pattern of units).",
        "The standard error of a difference is the pooled one. A pair's own is used instead if it is larger, to the "
        "extent that the cells' spreads visibly differ (Smyth 2004).",
        "Cells whose noise is much wider than that of others are pooled by themselves. Where the long tails of two "
        "cells pull their difference one way, Hall's corrected statistic (1992) counts if it is smaller.",
    ]
    if population.crossed:
        sentences.append(
            "The variance of a difference adds what comes from the trainings to what comes from the test rows "
            "(jackknife over blocks of rows; Owen 2007), with degrees of freedom as Satterthwaite (1946) weighs them."
        )
    if population.overlap:
        sentences.append(
            f"The variance is multiplied by 1 + {population.overlap:.3g} n, as the {population.noun}s share training "
            "rows (Nadeau & Bengio 2003)."
        )
    rows = ", with normal noise for the rows tested" if population.crossed else ""
    sentences += [
        f"The interval of a cell's mean is Student's t interval at {level}, for each cell separately. The part of it "
        "that the metric cannot reach is not shown; cells.csv has it whole.",
        "IQM is the mean of the middle half of the runs.",
        "P(better) is the share of pairs of runs with the same data and seed in which the one beats the other; a tie "
        "counts half, and a failed training loses.",
        f"The number of {population.noun}s that would decide gives a power of 80 %. It includes a margin, because the "
        "spread is only estimated.",
        f"P(best) is how often a cell has the best mean, and rank is the 95 % interval of its place, if the "
        f"{population.noun}s that all cells have are drawn again with replacement (bootstrap, {DRAWS:,} draws"
        f"{rows}). They describe the runs and claim nothing.",
        "Epochs count from 1 here; `best epoch` in cells.csv and `epoch` in history.csv count from 0.",
    ]
    return [*sentences, target.sentence] if target else sentences


def describe_selection(comparison: Comparison) -> str:
    """Say which metric selected epochs and settings, and on which seeds the figures are."""
    what = "Best epochs" + (" and settings" if comparison.tuned else "")
    fresh = "stage" in comparison.used and comparison.used["stage"].eq("test").any()
    seeds = ", and the test results come from fresh seeds" if fresh else ""
    return f"{what} were chosen by val/{comparison.primary}, never by test results{seeds}."

"""A family of contrasts against Student, Tukey, Welch, Smyth and plain linear algebra."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from losslab.compare.contrasts import Layout, degrees, find_scales, moderation, residuals
from losslab.compare.simultaneous import Family, infer_family, invert, stricter
from tests.conftest import some_now

Array = NDArray[Any]


def all_pairs(k: int) -> Array:
    """Every pair of k cells, and of four also the mean of two against that of the others."""
    weights = np.zeros((k * (k - 1) // 2, k))
    for row, (a, b) in enumerate(combinations(range(k), 2)):
        weights[row, [a, b]] = 1, -1
    return np.vstack([weights, [0.5, 0.5, -0.5, -0.5]]) if k == 4 else weights


def infer(y: Array, alpha: float = 0.05, tries: Any = 1, **layout: Any) -> Family:
    weights = layout.pop("contrasts", all_pairs(y.shape[1]))
    tries = np.broadcast_to(tries, len(weights))
    return infer_family(y, Layout(np.isfinite(y), weights, tries, **layout), alpha)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 20])
def test_two_cells_are_students_paired_t(n: int) -> None:
    rng, symmetric = np.random.default_rng(n), 0
    for shift in (0.0, 0.5, 1.0, 2.0) * 3:
        y = rng.normal(size=(n, 2)) + 10 * rng.normal(size=(n, 1)) + [shift, 0]
        theirs = stats.ttest_rel(y[:, 0], y[:, 1])
        ends = theirs.confidence_interval()
        found = infer(y)
        width = ends.high - ends.low
        assert found.estimate[0] == pytest.approx(np.diff(y[:, ::-1]).mean())
        one, other = stats.skew(y) * [1, -1]
        if n < 5 or not (min(one, other) > 0.3 or max(one, other) < -0.3):
            symmetric += 1
            noise = 3 * np.sqrt(theirs.pvalue * (1 - theirs.pvalue) / 20_000)
            assert found.p[0] == pytest.approx(theirs.pvalue, abs=noise + 0.01 * theirs.pvalue + 5e-5)
            assert (found.low[0], found.high[0]) == pytest.approx((ends.low, ends.high), abs=(0.015 + 0.02 / n) * width)
        else:  # Hall's correction only ever doubts more
            assert found.p[0] >= theirs.pvalue - 0.011
            assert found.high[0] - found.low[0] >= 0.985 * width
    assert symmetric >= 6


@pytest.mark.parametrize(("n", "k"), [(2, 6), (3, 3), (5, 4), (10, 3), (10, 8)])
def test_all_pairs_of_like_cells_are_tukeys(n: int, k: int) -> None:
    y = np.random.default_rng(n * k).normal(size=(n, k))
    tukey = stats.studentized_range.ppf(0.95, k, (n - 1) * (k - 1)) / np.sqrt(2)
    found = infer(y, contrasts=all_pairs(k)[: k * (k - 1) // 2])
    assert found.critical == pytest.approx(np.full(len(found.critical), tukey), rel=0.025)
    assert found.df == (n - 1) * (k - 1)


def test_known_experiments_give_known_answers() -> None:
    # Fisher 1935, The Design of Experiments, section 21, Darwin's maize; R 4: t.test(extra ~ group, data = sleep)
    darwin = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48.0])
    found = infer(np.c_[darwin, np.zeros(15)])
    assert found.estimate[0] == pytest.approx(20.933, abs=1e-3)
    assert found.se[0] == pytest.approx(37.744 / np.sqrt(15), abs=1e-3)
    assert found.p[0] > 0.045, "Fisher has 0.0497, and the differences are skewed"
    first = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    second = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    apart = np.full((20, 2), np.nan)
    apart[:10, 0], apart[10:, 1] = second, first
    found = infer(apart)
    assert (found.paired[0], found.n[0]) == (False, 10)
    assert found.p[0] == pytest.approx(0.07939, abs=0.005)
    assert (found.low[0], found.high[0]) == pytest.approx((-0.2054832, 3.3654832), abs=0.05)


def test_unpaired_cells_are_compared_by_the_larger_of_welchs_and_the_pooled_variance() -> None:
    rng = np.random.default_rng(3)
    for sizes in ((4, 9), (9, 4), (6, 6)):
        a, b = rng.normal(0, 1, sizes[0]), rng.normal(0, 5, sizes[1])
        apart = np.full((sum(sizes), 2), np.nan)
        apart[: sizes[0], 0], apart[sizes[0] :, 1] = a, b
        each = [(a.mean() - b.mean()) / stats.ttest_ind(a, b, equal_var=equal).statistic for equal in (True, False)]
        assert infer(apart).se[0] == pytest.approx(np.max(np.abs(each)))


@pytest.mark.usefixtures("few_draws")
def test_the_statement_of_a_pair_and_its_interval_never_disagree() -> None:
    for seed in range(120):
        rng = np.random.default_rng(seed)
        y, layout, alpha = draw_table(rng)
        found = infer(y, alpha, **layout)
        unknown = np.isnan(found.p)
        assert (np.isnan(found.low) == unknown).all()
        sure, apart = found.p <= alpha, (found.low > 0) | (found.high < 0)
        assert (sure == apart)[~unknown].all(), (seed, found)
        inside = (found.low <= found.estimate) & (found.estimate <= found.high)
        assert inside[~unknown].all(), (seed, found)
        assert ((found.p > 0) & (found.p <= 1))[~unknown].all(), (seed, found.p)


def draw_table(rng: np.random.Generator) -> tuple[Array, dict[str, Any], float]:
    """Values of units in cells, of one of many kinds, and what else counts."""
    n, k = int(rng.integers(1, 16)), int(rng.integers(2, 9))
    y = rng.normal(size=(n, k)) * 10 ** rng.uniform(-3, 3) + rng.normal(size=(n, 1)) * rng.choice([0, 1, 100])
    y += rng.normal(size=k) * rng.choice([0, 0.3, 3, 100])
    kind = rng.integers(8)
    if kind == 1:
        y[rng.random((n, k)) < rng.uniform(0, 0.7)] = np.nan
        y[0, 0] = 0.0
    elif kind == 2:
        y[np.arange(n)[:, None] % 2 == np.arange(k) % 2] = np.nan  # half of the cells share no unit with the others
        y[0, 1] = 0.0
    elif kind == 3:
        y = np.round(rng.normal(size=(n, k)))
    elif kind == 4:
        y = y[:, :1] + rng.integers(0, 2, size=k)
    elif kind == 5:
        y[:, 0] = 1.0
    elif kind == 6:
        y = rng.exponential(size=(n, k)) ** 2
    elif kind == 7:
        y *= 10.0 ** rng.integers(-2, 3, size=k)
    layout: dict[str, Any] = {"overlap": rng.choice([0, 0, 0.25, 1]), "grain": rng.choice([0, 0.5])}
    if rng.random() < 0.4:
        layout["tries"] = np.where(rng.random(len(all_pairs(k))) < 0.3, int(rng.integers(2, 50)), 1)
    if rng.random() < 0.3:
        root = rng.normal(size=(k, k))
        layout["row_noise"] = root @ root.T * 10 ** rng.uniform(-4, 1)
    return y, layout, float(rng.choice([0.05, 0.01, 0.2]))


def test_what_changes_nothing_changes_nothing() -> None:
    rng = np.random.default_rng(11)
    y = rng.normal([0.0, 0.5, 1.0, 3.0], 1, (6, 4))
    y[2, 1] = np.nan
    first = infer(y)
    for changed, factor in ((y + 50 * rng.normal(size=(6, 1)), 1.0), (1e-4 * y, 1e-4), (y + 1e3, 1.0), (-y, -1.0)):
        other = infer(changed)
        assert other.estimate == pytest.approx(factor * first.estimate)
        assert other.se == pytest.approx(abs(factor) * first.se)
        assert other.p == pytest.approx(first.p, abs=1e-3)
    cells, units = rng.permutation(4), rng.permutation(6)
    moved = infer(y[units][:, cells], contrasts=all_pairs(4)[:, cells])
    assert moved.estimate == pytest.approx(first.estimate)
    assert moved.se == pytest.approx(first.se)
    assert moved.p == pytest.approx(first.p, abs=0.012), "simulated with other draws"


@pytest.mark.parametrize("overlap", [0.0, 0.25, 1.0])
def test_overlapping_training_rows_widen_the_error_as_nadeau_and_bengio_say(overlap: float) -> None:
    y = np.random.default_rng(2).normal(size=(10, 2))
    spread = (y[:, 0] - y[:, 1]).std(ddof=1)
    found = infer(y, overlap=overlap)
    assert found.se[0] == pytest.approx(np.sqrt(1 / 10 + overlap) * spread)
    assert found.critical[0] == pytest.approx(infer(y).critical[0])


@pytest.mark.parametrize("size", [2, 8, 48])
def test_a_side_chosen_among_many_settings_is_corrected_as_sidak_does(size: int) -> None:
    y = np.random.default_rng(7).normal([1.5, 0], 1, (8, 2))
    alone, chosen = infer(y), infer(y, tries=size)
    assert chosen.p[0] == pytest.approx(1 - (1 - alone.p[0]) ** size, rel=0.1)
    enough = stats.t.isf((1 - 0.95 ** (1 / size)) / 2, 7)
    assert chosen.critical[0] == pytest.approx(enough, rel=0.1)
    assert chosen.critical[0] > alone.critical[0]


def test_noise_of_rows_is_added_and_alone_is_normal() -> None:
    y = np.random.default_rng(4).normal(size=(5, 3))
    noise = np.array([[2.0, 1.0, 0.5], [1.0, 2.0, 0.5], [0.5, 0.5, 3.0]])
    found, without = infer(y, row_noise=noise), infer(y)
    assert (found.se**2 > without.se**2 + [2.0, 4.0, 4.0]).all()
    assert found.se**2 == pytest.approx(without.se**2 * 8 / stats.chi2.ppf(0.5, 8) + [2.0, 4.0, 4.0])
    assert found.unit_se == pytest.approx(without.se)
    one = infer(np.array([[3.0, 0.0, 0.0]]), row_noise=np.eye(3), row_df=1e6)
    assert one.se == pytest.approx(np.full(3, np.sqrt(2)))
    assert one.critical == pytest.approx(
        np.full(3, stats.studentized_range.ppf(0.95, 3, np.inf) / np.sqrt(2)), rel=0.02
    )


def test_a_cell_with_few_units_does_not_silence_the_others() -> None:
    y = np.random.default_rng(5).normal(size=(5, 4)) * 0.1 + [0.0, 1.0, 2.0, 3.0]
    y[2:, 3] = np.nan
    found = infer(y)
    three = all_pairs(4)[:, 3] == 0
    assert (found.p[three] < 0.01).all()
    assert found.critical[three] == pytest.approx(np.full(3, infer(y[:, :3]).critical[0]), rel=0.15)
    assert len(set(found.critical.round(9))) == 2, "those of few units have a reference of their own"


def test_residuals_and_degrees_of_freedom_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    for _ in range(150):
        n, k = rng.integers(1, 13), rng.integers(2, 9)
        present = rng.random((n, k)) < rng.uniform(0.15, 1)
        present[0, 0] = True
        unit, cell = np.nonzero(present)
        design = np.zeros((len(unit), n + k))
        design[np.arange(len(unit)), unit] = design[np.arange(len(unit)), n + cell] = 1
        y = np.where(present, rng.normal(size=(n, k)) + 100 * rng.normal(size=(n, 1)), 7.0)
        values = y[unit, cell]
        widths = 10.0 ** rng.integers(-2, 3, size=k) if rng.random() < 0.5 else np.ones(k)
        root = 1 / widths[cell]  # weighted least squares
        theirs = values - design @ np.linalg.lstsq(design * root[:, None], values * root)[0]
        mine = residuals(y[None], present, widths**-2)[0]
        assert mine[unit, cell] == pytest.approx(theirs, abs=1e-6)
        assert not mine[~present].any()
        assert degrees(Layout(present, np.zeros((1, k)), np.ones(1))) == len(unit) - np.linalg.matrix_rank(design)


def test_no_width_hides_that_cells_and_units_explain_all() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        present = rng.random((8, 4)) < 0.8
        left = residuals((rng.normal(size=(8, 1)) + rng.normal(size=4))[None], present, 10.0 ** rng.integers(-12, 1, 4))
        assert left == pytest.approx(0, abs=1e-8)


def test_only_noise_that_is_much_wider_makes_a_scale_of_its_own() -> None:
    rng = np.random.default_rng(2)
    for widths in ([1, 1, 1, 1, 1], [1, 1, 2, 1, 2], [1, 1, 1, 1, 50], [1, 1, 1, 40, 2000]):
        scales = find_scales(rng.normal(0, widths, (12, 5)), np.ones((12, 5), bool))
        wide = np.array(widths) > 4
        assert scales[~wide].tolist() == [1] * (~wide).sum()
        assert scales[wide] == pytest.approx(np.array(widths)[wide], rel=0.6)
    first = rng.normal(size=12)
    near = find_scales(np.c_[first, first + 0.1, first + rng.normal(9, 1, 12)], np.ones((12, 3), bool), floor=1e-12)
    assert near[:2].tolist() == [1, 1]
    assert near[2] == pytest.approx(1e6, rel=0.6), "of a difference that only rounding makes"


def test_moderation_is_limmas() -> None:
    df = np.array([4.0, 4.0, 6.0, 8.0])
    variances = np.array([0.1, 1.0, 8.0, 0.5])
    prior, _ = moderation((variances * df)[None], df)
    # limma's fitFDist: e = log s^2 - digamma(df/2) + log(df/2), and trigamma(d0/2) = var(e) - mean(trigamma(df/2))
    e = np.log(variances) - special.digamma(df / 2) + np.log(df / 2)
    excess = e.var(ddof=1) - special.polygamma(1, df / 2).mean()
    assert special.polygamma(1, prior[0] / 2) == pytest.approx(excess)
    alike, none = moderation((np.ones(4) * df)[None], df)
    assert np.isinf(alike[0])
    assert none[0] == pytest.approx(0, abs=1e-12)
    samples = [np.random.default_rng(i).normal(0, 1 + i, 5) for i in range(4)]
    squares = np.array([np.sum((each - each.mean()) ** 2) for each in samples])
    _, same = moderation(squares[None] / (squares.sum() / 16), np.full(4, 4.0))
    assert same[0] == pytest.approx(stats.bartlett(*samples).statistic)


def test_spreads_that_differ_are_seen_and_widen_what_is_wider() -> None:
    y = np.random.default_rng(8).normal(size=(12, 5)) * [1, 1, 1, 1, 20]
    found = infer(y)
    assert found.spreads_differ
    narrow = all_pairs(5)[:, 4] == 0
    own = np.array([(y @ row).std(ddof=1) / np.sqrt(12) for row in all_pairs(5)])
    assert (found.se >= own * 0.5).all()
    assert found.se[~narrow] == pytest.approx(own[~narrow], rel=0.35)
    assert not infer(np.random.default_rng(8).normal(size=(12, 5))).spreads_differ


def test_rounding_errors_of_a_constant_difference_are_no_skewness() -> None:
    for seed in range(40):
        first = np.round(np.random.default_rng(seed).uniform(0.5, 1, 12), 3)
        found = infer(np.c_[first, first + 0.01])
        assert not found.skewed[0]
        assert found.p[0] <= 0.001


def test_halls_correction_only_doubts_and_inverts() -> None:
    t = np.linspace(-6, 6, 49)
    for a in (-0.8, -0.1, 0.0, 0.3):
        corrected = t + a * t**2 / 3 + a * a * t**3 / 27 + a / 6
        assert invert(corrected, np.full(49, a)) == pytest.approx(t, abs=1e-4)
        less = stricter(t, np.full(49, a))
        assert (np.abs(less) <= np.abs(t)).all()
        assert (less * t >= 0).all()


FAMILIES = [(3, 3, "normal"), (6, 4, "discrete"), (10, 5, "correlated")]


@pytest.mark.parametrize(("n", "k", "noise"), some_now(FAMILIES, FAMILIES[:2]))
def test_one_family_in_twenty_says_something_false(n: int, k: int, noise: str) -> None:
    rng = np.random.default_rng(n)
    false = 0
    for _ in range(400):
        y = rng.normal(size=(n, k)) + 5 * rng.normal(size=(n, 1)) * (noise == "correlated")
        y = np.round(2 * y) if noise == "discrete" else y
        false += bool((infer(y, grain=0.5 if noise == "discrete" else 0.0).p <= 0.05).any())
    assert stats.binom.cdf(false, 400, 0.05) > 0.001, "too careful"
    assert stats.binom.sf(false - 1, 400, 0.05) > 0.01, f"{false} of 400"


def test_the_best_of_eight_settings_against_one_is_false_once_in_twenty_at_most() -> None:
    rng = np.random.default_rng(9)
    false = naive = 0
    for _ in range(400):
        settings, default = rng.normal(size=(5, 8)), rng.normal(size=5)
        y = np.c_[settings[:, settings.mean(0).argmax()], default]  # chosen by the very values that are tested
        false += bool(infer(y, tries=8).p[0] <= 0.05)
        naive += bool(infer(y).p[0] <= 0.05)
    assert stats.binom.sf(false - 1, 400, 0.05) > 0.01, f"{false} of 400"
    assert naive > 25 > false, (naive, false)


def test_noise_that_is_a_share_of_the_values_hides_no_difference_of_quieter_cells() -> None:
    rng = np.random.default_rng(7)
    levels = np.array([1.0, 1.3, 3.0])
    y = levels * (1 + 0.12 * rng.standard_normal((9, 3)))
    alone, with_third = infer(y[:, :2], levels=levels[:2]), infer(y, levels=levels)
    assert alone.p[0] < 0.005
    assert with_third.p[0] < 0.005
    assert infer(y).p[0] > 0.02  # one width for all: the third cell's noise hides the difference
    assert with_third.se[0] == pytest.approx(alone.se[0], rel=0.25)

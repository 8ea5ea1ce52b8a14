"""How many runs a race takes, how often it is wrong, and whether it ends with the best: simulated.

    python benchmarks/races.py                       # every design, 200 races each
    python benchmarks/races.py races=50 find=40

Candidates differ by 0 to 3 standard deviations of a training, and a difference of one is worth finding; or they are
4 losses x 3 optimizers on digits that were trained with 100 seeds each (recorded.csv), drawn again. Each method
sees the same values. `runs` counts trainings as a share of the full grid's: all candidates with so many seeds that one
test of all pairs decides 80 % of those with the leader, better or the same. A race may go on for so many seeds that it
decides as many (`seeds`). Per cent of races, except `runs` and `seeds`:

    false      at least one sentence is false: worse, where it is as good, or the same, where it is worse by more
    best       the one it ends with is the best, or the same as the best within the difference
    decided    pairs with the leader that are decided

Rivals: `bayes`, which spends the runs of the race where the expected improvement is largest, as Bayesian searches do,
and says nothing of how sure it is; `halving`, which drops the worse half after 1, 2, 4, ... seeds and tests the last
two by t; `friedman`, the rule of irace (Friedman's test, then pairs with the best, after each seed from 5 on); and the
full grid.
"""

import re
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from losslab.compare import simultaneous
from losslab.compare.contrasts import Layout
from losslab.compare.simultaneous import infer_family
from losslab.race.judge import FAILURES, judge, plan_seeds
from losslab.race.levels import LOOKS, find_level, first_look, spend

simultaneous.simulate = lru_cache(4096)(simultaneous.simulate.__wrapped__)  # all looks of all races, not the last 32
Array = NDArray[Any]
MOST = LOOKS[-1]
RECORDED = Path(__file__).parent / "recorded.csv"  # test accuracy of 12 cells with seeds 0 to 99 each
WORTH = 1.0  # the difference worth finding, in standard deviations


@dataclass(frozen=True)
class End:
    """How a race ended: its trainings, the share of pairs decided, whether a sentence is false, and the winner."""

    runs: int
    decided: float
    false: bool
    winner: int


@dataclass(frozen=True)
class Design:
    """A kind of race: draws the means of the candidates and the values `(seeds, candidates)`."""

    name: str
    candidates: int
    draw: Callable[[np.random.Generator], tuple[Array, Array]]


def draw_race(rng: np.random.Generator, k: int, spread: float, kind: str) -> tuple[Array, Array]:
    """Return means from 0 down to `-spread`, the best 0, and values around them; NaN is a training that failed."""
    means = -rng.uniform(0, spread, k)
    means -= means.max()
    noise = rng.standard_normal((MOST, k))
    if kind == "correlated":
        noise = 0.6 * noise + 2.0 * rng.standard_normal((MOST, 1))
    if kind == "heavy tails":
        noise = rng.standard_t(3, (MOST, k)) / 3**0.5
    values = means + noise
    if kind == "failures":
        values[rng.random((MOST, k)) < np.where(np.arange(k) % 3 == 0, 0.1, 0.0)] = np.nan
    return means, values


def draw_equal(rng: np.random.Generator, k: int) -> tuple[Array, Array]:
    """Return candidates that do not differ."""
    return np.zeros(k), rng.standard_normal((MOST, k))


def layout_of(y: Array) -> Layout:
    """Return a layout of these values; its contrasts are added where they are tested."""
    return Layout(np.isfinite(y), np.zeros((0, y.shape[1])), np.ones(0))


def race(means: Array, values: Array, most: int) -> list[tuple[int, End]]:
    """Race as `losslab race` does, up to so many seeds; return how things stand after each look, by its seeds."""
    k = values.shape[1]
    racing, waiting, leader, story = list(range(k)), list[int](), None, list[tuple[int, End]]()
    have, false, spent, planned = np.zeros(k, int), False, list[tuple[int, float]](), 0
    beaten: dict[int, dict[int, float]] = {}  # how far each is behind each rival at least
    for n in (n for n in LOOKS if first_look(k) <= n <= most):
        have[racing] = n
        known = [c for c in sorted([*racing, *waiting]) if np.isfinite(values[: have[c], c]).any()]
        y = np.stack([np.where(np.arange(n) < have[c], values[:n, c], np.nan) for c in known], 1)
        planned = planned or plan_seeds(y, layout_of(y), WORTH, 0.05)
        share = spend(n, planned)
        spent.append((n, max(share, spent[-1][1] if spent else 0.0)))
        place = {c: number for number, c in enumerate(known)}
        failures = np.isnan(values[:n][:, known]).sum(0).tolist()
        before = None if leader is None else place.get(leader)
        look = judge(
            y,
            layout_of(y),
            find_level(k, tuple(spent)),
            WORTH,
            [place[c] for c in racing if c in place],
            failures,
            before,
            k,
        )
        leader = known[look.leader]
        false |= any(abs(means[known[c]] - means[leader]) > WORTH for c in look.same)
        for c, behind in look.beaten.items():
            beaten[known[c]] = {known[rival]: gap.low for rival, gap in behind.items()}
        false |= any(is_false(means, c, behind, beaten.keys()) for c, behind in beaten.items())
        waiting = [known[c] for c in look.same]
        racing = [c for c in known if c not in waiting and place[c] not in look.beaten]
        traded = sum(why == FAILURES for why in look.hopeless.values())  # better, but it fails more often
        story.append((n, End(int(have.sum()), (len(beaten) + len(waiting) + traded) / (k - 1), false, leader)))
        if all(known.index(c) in look.hopeless for c in racing if c != leader):
            break
    return story


def is_false(means: Array, c: int, behind: dict[int, float], beaten: Collection[int]) -> bool:
    """Whether it is false that a candidate is worse than the best, or if that is not sure, that another is as good."""
    surely = min(low for rival, low in behind.items() if rival not in beaten or len(behind) == 1) > 0
    return bool(means[c] >= means.max() if surely else means[c] > np.delete(means, c).max())


def end_at(story: list[tuple[int, End]], n: int) -> End:
    """Return how a race stood after so many seeds, or had ended before."""
    return [end for seeds, end in story if seeds <= n or seeds == story[0][0]][-1]


def full(means: Array, values: Array, n: int) -> End:
    """Test all pairs once, after n seeds each, as a comparison does."""
    y, k = values[:n], values.shape[1]
    weights = np.array([np.eye(k)[a] - np.eye(k)[b] for a, b in combinations(range(k), 2)])
    family = infer_family(y, replace(layout_of(y), contrasts=weights, tries=np.ones(len(weights))), 0.05)
    leader = int(np.nanmean(y, 0).argmax())
    decided, false = 0, False
    found = zip(combinations(range(k), 2), family.estimate, family.low, family.high, family.p, strict=True)
    for (a, b), estimate, low, high, p in found:
        beats, same = p <= 0.05, low >= -WORTH and high <= WORTH
        decided += leader in (a, b) and (beats or same)
        false |= bool(beats and (means[a] - means[b]) * estimate <= 0) or (same and abs(means[a] - means[b]) > WORTH)
    return End(n * k, decided / (k - 1), false, leader)


def look_once(means: Array, values: Array, n: int) -> End:
    """Judge as a race does, but once, after n seeds each."""
    y, k = values[:n], values.shape[1]
    look = judge(y, layout_of(y), 0.05, WORTH, range(k), np.isnan(y).sum(0).tolist())
    return End(n * k, (len(look.beaten) + len(look.same)) / (k - 1), False, look.leader)


def halve(means: Array, values: Array, n: int) -> End:
    """Drop the worse half after 1, 2, 4, ... seeds, and call the last two different where a t test does."""
    left, seeds, runs = np.arange(values.shape[1]), 1, 0
    while len(left) > 2 and seeds < n:
        runs += len(left) * (seeds - seeds // 2)
        order = np.argsort(-np.ma.masked_invalid(values[:seeds, left]).mean(0).filled(-np.inf))
        left, seeds = left[order[: max(2, -(-len(left) // 2))]], min(2 * seeds, n)
    runs += len(left) * (n - seeds // 2)
    y = values[:n, left]
    p = stats.ttest_rel(y[:, 0], y[:, 1], nan_policy="omit").pvalue
    ahead = int(np.nanmean(y, 0).argmax())
    false = bool(p <= 0.05 and means[left[ahead]] <= means[left[1 - ahead]])
    return End(runs, float(p <= 0.05), false, int(left[ahead]))


def friedman(means: Array, values: Array, n: int) -> End:
    """Drop what Friedman's test and then pairs with the best say is worse, after each seed from 5 on, as irace does."""
    left, runs, false, k = np.arange(values.shape[1]), 5 * values.shape[1], False, values.shape[1]
    for seeds in range(5, n + 1):
        runs += len(left) * (seeds > 5)
        ranks = stats.rankdata(-np.nan_to_num(values[:seeds, left], nan=-1e9), axis=1)
        if len(left) > 2:
            total, squares = ranks.sum(0), (ranks**2).sum()
            base = seeds * len(left) * (len(left) + 1) ** 2 / 4
            between = (total**2).sum() / seeds - base
            statistic = (len(left) - 1) * seeds * between / (squares - base)
            if stats.chi2.sf(statistic, len(left) - 1) > 0.05:
                continue
            rest = (squares - (total**2).sum() / seeds) * 2 * seeds / ((seeds - 1) * (len(left) - 1))
            worse = total - total.min() > stats.t.ppf(0.975, (seeds - 1) * (len(left) - 1)) * np.sqrt(max(rest, 1e-12))
        else:
            y = values[:seeds, left]
            worse = (np.nanmean(y, 0) < np.nanmean(y, 0).max()) & (
                stats.wilcoxon(y[:, 0], y[:, 1], nan_policy="omit").pvalue <= 0.05
            )
        best = left[int(total.argmin())] if len(left) > 2 else left[int(np.nanmean(values[:seeds, left], 0).argmax())]
        false |= bool((means[left[worse]] >= means[best]).any())
        left = left[~worse]
        if len(left) == 1:
            break
    winner = int(left[np.nanmean(values[:seeds, left], 0).argmax()])
    return End(runs, (k - len(left)) / (k - 1), false, winner)


def search(values: Array, runs: int) -> int:
    """Return the best mean after so many runs, each where the expected improvement on the best mean is largest."""
    k = values.shape[1]
    seen = [[values[0, c]] for c in range(k)]
    for _ in range(max(0, min(runs, values.size // 2) - k)):
        every = np.concatenate([np.array(each)[np.isfinite(each)] for each in seen])
        prior, spread = np.nanmean(every), np.nanstd(every) + 1e-9
        count = np.array([np.isfinite(each).sum() for each in seen])
        total = np.array([np.nansum(each) for each in seen])
        mean, sd = (total + prior / spread**2) / (count + 1 / spread**2), 1 / np.sqrt(count + 1 / spread**2)
        z = (mean - mean.max()) / sd
        gain = sd * (z * stats.norm.cdf(z) + stats.norm.pdf(z))
        gain[[len(each) >= MOST for each in seen]] = -np.inf
        chosen = int(gain.argmax())
        seen[chosen].append(values[len(seen[chosen]), chosen])
    return int(np.nanargmax([np.nanmean(each) if np.isfinite(each).any() else -np.inf for each in seen]))


def draw_recorded(rng: np.random.Generator, k: int) -> tuple[Array, Array]:
    """Return some of the cells that were trained, in units of their noise, and seeds drawn among theirs."""
    table = np.loadtxt(RECORDED, delimiter=",", skiprows=1)
    cells = rng.choice(table.shape[1], k, replace=False)
    values = table[:, cells] / np.median(table[:, cells].std(0, ddof=1))
    means = values.mean(0)
    return means - means.max(), values[rng.integers(0, len(values), MOST)]


def list_designs() -> list[Design]:
    """List the designs."""
    found = [
        Design(f"{k} candidates, {kind}", k, partial(draw_race, k=k, spread=1.5 if k == 2 else 3.0, kind=kind))
        for k in (2, 6, 12, 40)
        for kind in ("normal", "correlated", "heavy tails", "failures")
    ]
    found += [Design(f"{k} equal candidates", k, partial(draw_equal, k=k)) for k in (2, 6, 12, 40)]
    return found + [Design(f"{k} candidates, recorded", k, partial(draw_recorded, k=k)) for k in (2, 6, 12)]


def count_seeds(draws: list[tuple[Array, Array]], test: Callable[[Array, Array, int], End]) -> int:
    """Return with how many seeds each a test after the full grid decides 80 % of the pairs with the leader."""
    low, high = 1, len(LOOKS) - 1
    while low < high:
        middle = (low + high) // 2
        enough = np.mean([test(*draw, LOOKS[middle]).decided for draw in draws]) >= 0.8
        low, high = (low, middle) if enough else (middle + 1, high)
    return LOOKS[low]


def main() -> None:
    """Run the designs that were asked for and print the table, a line as soon as it is known."""
    typed = dict(word.split("=", 1) for word in sys.argv[1:])
    count = int(typed.get("races", 200))
    heading = [
        "design",
        "seeds of the full grid",
        "by the rule of the race",
        "race: runs",
        "race: false",
        "race: best",
        "race: decided",
        "race: seeds",
    ]
    heading += [f"{name}: {key}" for name in ("full", "halving", "friedman") for key in ("runs", "false", "best")]
    heading.append("bayes: best")
    print("| " + " | ".join(heading) + " |\n|" + "---|" * len(heading), flush=True)
    for design in list_designs():
        if not re.search(typed.get("find", ""), design.name):
            continue
        rng = np.random.default_rng(sum(map(ord, design.name)))
        draws = [design.draw(rng) for _ in range(count)]
        n, once = (count_seeds(draws[:60], test) for test in (full, look_once))
        stories = [race(*draw, MOST if "equal" in design.name else 2 * n) for draw in draws]
        decided = {cap: np.mean([end_at(story, cap).decided for story in stories]) for cap in LOOKS}
        cap = next((cap for cap, share in decided.items() if share >= 0.8), MOST)
        if "equal" in design.name:
            cap = MOST  # to see whether it is ever wrong
        ends = {
            "race": [end_at(story, cap) for story in stories],
            "full": [full(*draw, n) for draw in draws],
            "halving": [halve(*draw, n) for draw in draws],
            "friedman": [friedman(*draw, n) for draw in draws],
        }
        winners = [search(values, end.runs) for (_, values), end in zip(draws, ends["race"], strict=True)]
        bayes = 100 * np.mean([means[winner] >= -WORTH for winner, (means, _) in zip(winners, draws, strict=True)])
        cells = [design.name, str(n), str(once)]
        for name, found in ends.items():
            runs = np.mean([end.runs for end in found]) / (n * design.candidates)
            false, best = (
                100 * np.mean([end.false for end in found]),
                100 * np.mean([means[end.winner] >= -WORTH for end, (means, _) in zip(found, draws, strict=True)]),
            )
            cells += [f"{runs:.2f}", f"{false:.1f}", f"{best:.0f}"]
            if name == "race":
                cells += [f"{100 * np.mean([end.decided for end in found]):.0f}", str(cap)]
        print("| " + " | ".join([*cells, f"{bayes:.0f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()

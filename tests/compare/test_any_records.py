"""Whatever was recorded, a comparison ends in sentences that agree with their numbers, or in a refusal."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from losslab.compare.cautions import find_cautions
from losslab.compare.claims import evaluate
from losslab.compare.design import arrange
from losslab.compare.lead import write_lead
from losslab.compare.method import describe_method
from losslab.compare.runs import Runs
from losslab.compare.table import format_cells, format_pairs, summarize_cells, tabulate_pairs
from losslab.compare.verdict import write_verdict
from losslab.errors import Refused

ODD = re.compile(r"\b(nan|inf|bound method|None(?! of)|1 (others|seeds|splits|folds|data sets))\b|  |\.\.")


def draw_runs(rng: np.random.Generator) -> Runs:
    """Records of runs, some of which failed, diverged, were lost, or are equal to others."""
    losses, optimizers = (
        [*"abcdefghij"][: int(rng.choice([1, 2, 3, 4, 10], p=[0.1, 0.3, 0.3, 0.25, 0.05]))],
        ["adam", "sgd"][: rng.integers(1, 3)],
    )
    rates, data = [0.1, 0.01][: rng.integers(1, 3)], ["d1", "d2", "d3"][: rng.choice([1, 1, 2, 3])]
    splits, seeds = rng.choice(["seed", "one", "crossed", "folds"]), range(rng.choice([1, 2, 3, 6]))
    failing, missing, spread = rng.choice([0, 0, 0.1, 0.5]), rng.choice([0, 0, 0.2, 0.6]), 10.0 ** rng.integers(-5, 1)
    apart, mode, digits = rng.choice([0, 1, 20]), rng.choice(["min", "max"]), rng.choice([2, 9])
    records: list[dict[str, Any]] = []
    axes = [range(len(each)) for each in (data, losses, optimizers, rates, seeds)]
    for d, a, o, r, seed in np.array(np.meshgrid(*axes)).reshape(5, -1).T:
        for split in range(3) if splits in ("crossed", "folds") else (0,):
            value = 0.5 + spread * (0.1 * a * apart + 0.3 * rng.normal()) + 0.01 * seed
            value = round(value * rng.choice([1, 1, 1e5, np.nan], p=[0.49, 0.49, 0.01, 0.01]), digits)
            value = min(value, 1.0) if mode == "max" else value
            shares = [1 - failing, 0.8 * failing, 0.2 * failing]
            status = rng.choice(["finished", "failed", "running"], p=shares)
            record: dict[str, Any] = {
                "loss": losses[a], "optimizer": optimizers[o], "optimizer.lr": rates[r], "seed": int(seed),
                "data": data[d], "data.seed": int({"seed": seed, "crossed": split}.get(splits, 0)), "task": "t",
                "data.fold": split if splits == "folds" else None, "data.folds": 3 if splits == "folds" else None,
                "task.yardstick": "m", "task.mode": mode, "status": status, "reason": None, "started": "",
                "folder": f"{len(records)}", "first/gradient_norm": 1.0,
            }  # fmt: skip
            more = {"test/m": value, "val/m_best": value + rng.normal(), "epochs": 3.0, "updates": 9.0}
            if rng.random() >= missing:
                records.append({**record, **(more if status == "finished" else dict.fromkeys(more, np.nan))})
    settings = list(record)[: list(record).index("status")]
    return Runs(pd.DataFrame(records, columns=[*record, *more]), settings)


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("seeds", [range(12), pytest.param(range(12, 36), marks=pytest.mark.system)])
def test_every_sentence_agrees_with_its_numbers(seeds: range) -> None:
    refusals: list[str] = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        runs = draw_runs(rng)
        try:
            comparison = arrange(runs)
        except Refused as refused:
            refusals.append(str(refused))
            continue
        findings = evaluate(comparison)
        verdict = write_verdict(comparison, findings)
        cells, pairs = summarize_cells(comparison), tabulate_pairs(findings.every)
        for table in (format_cells(comparison, cells), format_pairs(pairs, comparison.unit, findings.alpha)):
            assert not table.isin(["nan", "inf"]).any().any(), (seed, table)
        lead = [text for line in write_lead(comparison, findings, 1.0) for text in (line.answer, *line.evidence)]
        said = "\n".join(
            [*verdict, *lead, *describe_method(comparison, None, findings.alpha), *find_cautions(comparison, findings)]
        )
        assert not ODD.search(said), (seed, ODD.search(said), said)
        assert "e+" not in "".join(verdict), (seed, verdict)
        for pair in findings.every:
            if np.isfinite(pair.p):
                assert (pair.p <= 0.05) == (pair.low > 0 or pair.high < 0), (seed, pair)
                assert pair.low <= pair.mean <= pair.high, (seed, pair)
            assert np.isnan(pair.improvement) or 0 <= pair.improvement <= 1, (seed, pair)
        beaten = sum(line.count(" beats ") for line in verdict)
        assert beaten == 0 or (pairs["p"] <= 0.05).any(), (seed, verdict)
        if seed % 3 == 0:
            again = arrange(Runs(runs.frame.sample(frac=1, random_state=seed), runs.settings))
            found = np.sort([pair.p for pair in evaluate(again).every])
            assert found == pytest.approx(np.sort([pair.p for pair in findings.every]), abs=0.03, nan_ok=True), seed
    assert len(refusals) < 10
    assert all(re.search("nothing to compare yet|type by=", text) for text in refusals), refusals

"""Progress in a log and on a terminal of 80 columns."""

from itertools import pairwise

import pytest
from tqdm import tqdm

from losslab.progress import FORMAT, LONGEST, Lines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("losslab.progress.time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("seconds", "step", "least", "most"),
    [(29, 0.5, 0, 0), (31, 0.5, 2, 2), (600, 1, 20, 21), (3 * 86400, 10, 400, 900), (40, 39, 2, 2)],
)
def test_a_log_gets_a_line_every_so_often_and_one_at_the_end(
    clock: list[float], capsys: pytest.CaptureFixture[str], seconds: int, step: float, least: int, most: int
) -> None:
    steps = int(seconds / step)
    with Lines(steps, "epoch 1/3") as lines:
        dues = [clock[0]]
        for number in range(steps):
            clock[0] += step
            lines.update()
            lines.set_postfix({"val/rmse": f"{number}.5"})
            if lines.due > dues[-1]:
                dues.append(lines.due)
    out, err = capsys.readouterr()
    assert out == ""
    said = err.splitlines()
    assert least <= len(said) <= most
    assert all(line.startswith("epoch 1/3, ") and ", val/rmse " in line and len(line) <= 80 for line in said[1:])
    assert not said or said[-1].startswith(f"epoch 1/3, 100 %, {tqdm.format_interval(steps * step)} elapsed")
    assert max(b - a for a, b in pairwise(dues)) <= LONGEST + step


@pytest.mark.parametrize("epochs", ["epoch 3/30", "epoch 9999/10000"])
@pytest.mark.parametrize("metric", ["rmse", "average_precision"])
def test_a_bar_of_80_columns_holds_the_number_that_counts(epochs: str, metric: str) -> None:
    shown = tqdm.format_meter(
        *(50, 100, 3700.0),
        ncols=79,
        prefix=epochs,
        postfix=f"val/{metric}=0.1234, best=0.1234",
        bar_format="{desc} " + FORMAT,
    )
    assert shown.endswith("best=0.1234")
    assert len(shown) <= 79
    assert " |" in shown

"""Names come from strangers' files: the page shows each as a text, and the plots draw it."""

import pandas as pd
import pytest

from losslab.compare.__main__ import render_files
from losslab.compare.claims import evaluate
from losslab.compare.design import arrange
from losslab.compare.report import write_report
from losslab.compare.request import Request
from losslab.compare.runs import Runs
from losslab.page import plots
from tests.page.opened import Seen

NAMES = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "x" * 20_000,
    "\u202egnp.exe",  # right-to-left from here on
    "\u0645\u0631\u062d\u0628\u0627",
    "\U0001f984 & $\\alpha_{$",
    "a\x01b\nc",
    "]]></svg><b>",
]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The page of runs whose every name is hostile, as a browser parses it."""
    records = [
        {"loss": name, "optimizer": NAMES[-1 - seed % 2], "seed": seed, "data": NAMES[0], "data.seed": 0, "task": "t",
         "task.yardstick": "m", "task.mode": "min", "status": "failed" if number == 3 and seed == 1 else "finished",
         "reason": NAMES[1], "started": "", "folder": f"runs/{name[:90]}-{seed}", "first/gradient_norm": 1.0,
         "wandb": "javascript:alert(1)", "command": f"losslab loss={name}", "epochs": 3.0, "updates": 9.0,
         "seconds": 1.0 + number, "peak_memory_mb": 9.0 - number,
         "test/m": 1 + number / 9 + (seed * 7 + number) % 5 / 9,
         "val/m_best": 1.0, "test/<u>": 2.0, "val/<u>": 2.0, "val/<u>_best": 2.1 + seed}
        for number, name in enumerate(NAMES) for seed in range(4)
    ]  # fmt: skip
    out = tmp_path_factory.mktemp("page")
    comparison = arrange(Runs(pd.DataFrame(records), ["loss", "optimizer", "seed", "data", "data.seed"]))
    report = write_report(comparison, evaluate(comparison), 1.0, out)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plots, "DPI", 60)
        files = render_files(report, Request(["runs"], out))
    page = files["index.html"]
    assert isinstance(page, str)
    assert len(page.encode()) < 3e6
    return Seen(page)


def test_nothing_of_a_name_is_markup_or_runs(seen: Seen) -> None:
    seen.check()
    assert not {"img", "b", "u"} & set(seen.tags)
    assert seen.tags.count("script") == 1
    assert not any("alert" in link and not link.startswith(("./", "data:")) for link in seen.linked)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_shown_as_it_is(seen: Seen, name: str) -> None:
    shown = name if len(name) < 99 else "x" * 80 + "\u2026"
    for hidden in "\u202e\x01":
        shown = shown.replace(hidden, "\ufffd")
    assert sum(shown in text for text in seen.said) >= 3, "in the lead, in the table, at a mark"

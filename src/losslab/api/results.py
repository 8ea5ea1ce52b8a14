"""What a notebook gets back: a run, the runs of a sweep, and a comparison. Each reads its folder's plain files."""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from losslab.errors import Refused
from losslab.files import read_json, read_yaml

HEIGHT = 900  # pixels of a page in a notebook


@dataclass(frozen=True)
class Picture:
    """A picture of a run, which a notebook shows."""

    path: Path

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True)
class Result:
    """A run, by its folder: `losslab.Result("outputs/...")` reads any, whoever trained it.

    Args:
        folder: of the run.
        own: the words by which a command finds the user's own options, if the run has any.
    """

    folder: Path
    own: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        if not (self.folder / "status.json").is_file():
            raise Refused(f"{self.folder} is no run's folder: give one that holds status.json")

    @property
    def summary(self) -> dict[str, Any]:
        """The last and the best value of each metric, and the test metrics; empty if the run has not finished."""
        file = self.folder / "summary.json"
        return dict(read_json(file)) if file.is_file() else {}

    @property
    def history(self) -> pd.DataFrame:
        """One row for each epoch."""
        return pd.read_csv(self.folder / "history.csv")

    @property
    def config(self) -> dict[str, Any]:
        """Every setting under its dotted name."""
        return dict(read_yaml(self.folder / "config.yaml"))

    @property
    def status(self) -> dict[str, Any]:
        """Whether it finished, why not, what was typed, and where it ran."""
        return dict(read_json(self.folder / "status.json"))

    @property
    def checkpoint(self) -> Path:
        """The weights of the best epoch."""
        return self.folder / "best.ckpt"

    @property
    def pictures(self) -> dict[str, Picture]:
        """All pictures by their names."""
        return {file.stem: Picture(file) for file in sorted((self.folder / "pictures").glob("*.png"))}

    @property
    def curves(self) -> Picture:
        """Loss and primary metric against the epoch."""
        return Picture(self.folder / "pictures" / "curves.png")

    def predict(self, data: Any, **settings: Any) -> pd.DataFrame:
        """Predict for new rows; see `losslab.predict`."""
        from losslab.api import predict

        return predict(self, data, **settings)

    def _repr_html_(self) -> str:
        config = self.config
        title = ", ".join(str(config.get(group)) for group in ("data", "model", "loss", "optimizer"))
        tests = {
            name: value for name, value in self.summary.items() if name.startswith("test/") and "memory" not in name
        }
        rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{value:.6g}</td></tr>" for name, value in tests.items())
        where = html.escape(str(self.folder))
        return f"<b>{html.escape(title)}</b>, seed {config.get('seed')}<table>{rows}</table><code>{where}</code>"


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep, by its folder."""

    folder: Path
    own: tuple[str, ...] = field(default=(), repr=False)

    @property
    def runs(self) -> list[Result]:
        """Its runs, finished or not."""
        return [Result(file.parent, self.own) for file in sorted(self.folder.glob("runs/*/status.json"))]

    @property
    def table(self) -> pd.DataFrame:
        """A row for each run: what was varied and what became of it."""
        from losslab.compare.runs import read_runs

        runs = read_runs([str(self.folder / "runs")])
        frame = runs.frame
        varied = [name for name in runs.settings if frame[name].astype(str).nunique() > 1]
        kept = ["folder", "status", *varied, *(name for name in frame if str(name).startswith(("test/", "val/")))]
        return frame[[name for name in dict.fromkeys(kept) if name in frame]]

    def compare(self, **settings: Any) -> "Comparison":
        """Compare its runs; see `losslab.compare`."""
        from losslab.api import compare

        return compare(self, **settings)

    def _repr_html_(self) -> str:
        shown: str = self.table.drop(columns="folder").to_html(index=False, float_format="{:.5g}".format)
        return f"{shown}<code>{html.escape(str(self.folder))}</code>"


@dataclass(frozen=True, repr=False)
class Comparison:
    """What was better, by how much, and how sure that is, by the folder of its page.

    Args:
        folder: of the page.
        found: what `losslab compare --json` prints; empty for a race, which says it in `sentences`.
        sentences: the verdict, if it is not in `found`.
    """

    folder: Path
    found: dict[str, Any] = field(default_factory=dict, repr=False)
    sentences: Sequence[str] = field(default=(), repr=False)

    @property
    def verdict(self) -> str:
        """The answer, in sentences."""
        return "\n".join(self.found.get("verdict", self.sentences))

    @property
    def cautions(self) -> list[str]:
        """What to keep in mind of it."""
        return list(self.found.get("cautions", []))

    @property
    def table(self) -> pd.DataFrame:
        """A row for each loss and optimizer that was compared."""
        return pd.read_csv(self.folder / "cells.csv")

    @property
    def pairs(self) -> pd.DataFrame:
        """A row for each difference, with its interval."""
        return pd.read_csv(self.folder / "pairs.csv")

    @property
    def page(self) -> Path:
        """The page, one file that holds all of it."""
        return self.folder / "index.html"

    def __repr__(self) -> str:
        return f"{self.verdict}\n{self.page}"

    def _repr_html_(self) -> str:
        page = html.escape(self.page.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" width="100%" height="{HEIGHT}" style="border:0"></iframe>'


def parse_comparison(text: str) -> Comparison:
    """Read what `losslab compare --json` prints."""
    found: dict[str, Any] = json.loads(text)
    return Comparison(Path(found["page"]).parent, found)

"""A table whose rows have weights, for runs that are trained on it."""

from pathlib import Path

import numpy as np
import pandas as pd

ROWS = 240
SETTINGS = ("data=csv", "data.split=part", "model=linear", "optimizer=sgd", "trainer.precision=64-true")
TARGETS = {"regression": "size", "single_label": "kind", "multi_label": "tags"}


def write_tables(path: Path) -> tuple[str, str]:
    """Write a table with weights, and one in which each row stands as often as its weight says; their paths.

    Its features are categories: the mean of a number would depend on how often a row stands there.
    """
    draws = np.random.default_rng(0)
    a, b = draws.integers(0, 3, ROWS), draws.integers(0, 4, ROWS)
    noise = draws.normal(size=ROWS)
    frame = pd.DataFrame({"a": np.array(list("xyz"))[a], "b": np.array(list("pqrs"))[b]})
    frame["size"] = (a - b + noise + 6).round(3)
    frame["kind"] = np.array(["cat", "dog", "owl"])[np.clip(np.round(a + 0.5 * noise), 0, 2).astype(int)]
    frame["tags"] = [
        "|".join(t for t, on in zip("uvw", each, strict=True) if on) for each in (a + noise)[:, None] > [0, 1, 2]
    ]
    frame["n"] = draws.integers(0, 4, ROWS)
    frame["part"] = np.resize(["train", "train", "val", "test"], ROWS)
    frame.to_csv(path / "weighted.csv", index=False)
    frame.loc[frame.index.repeat(frame["n"])].to_csv(path / "repeated.csv", index=False)
    return str(path / "weighted.csv"), str(path / "repeated.csv")


def others(task: str) -> str:
    """What to leave out where the target is another column."""
    return f"data.drop=[{','.join(target for name, target in TARGETS.items() if name != task)}]"

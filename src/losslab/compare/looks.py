"""How often runs were looked at while there were ever more of them: 5 % holds for one look."""

from pathlib import Path

from losslab.compare.design import Comparison
from losslab.files import known_json

FILE = "comparison.json"


def list_looks(comparison: Comparison, folder: Path) -> list[int]:
    """List how many runs each look at these cells was at, the present one last.

    An earlier look counts if the comparison in the folder asked the same of some of the same runs, and there are more
    now.
    """
    count, used = len(comparison.used), set(name_runs(comparison))
    earlier = known_json(folder / FILE)
    asked = {"by": comparison.by, "metric": comparison.metric}
    runs, looks = earlier.get("runs"), earlier.get("looks")
    if (
        any(earlier.get(key) != value for key, value in asked.items())
        or not isinstance(runs, list)
        or not isinstance(looks, list)
        or not all(isinstance(look, int) for look in looks)
        or not {str(run) for run in runs} <= used
    ):
        return [count]
    return looks if len(runs) == count else [*looks, count]


def name_runs(comparison: Comparison) -> list[str]:
    """Name the runs that are used by their folders' own names, which stay when a folder is moved or copied."""
    return sorted(Path(folder).name for folder in comparison.used["folder"].map(str))


def doubt_looks(looks: list[int], alpha: float) -> list[str]:
    """Say what several looks do to the level, in a sentence; nothing for one."""
    if len(looks) < 2:
        return []
    counts = ", ".join(f"{look:,}" for look in looks[:-1])
    return [
        f"These cells were looked at before ({counts} runs, {looks[-1]:,} now). The level holds for one look: over "
        f"{len(looks)} a difference is called real by chance in up to {min(1, len(looks) * alpha):.0%} of cases. New "
        "seeds, compared by themselves, are a first look."
    ]

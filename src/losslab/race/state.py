"""What a race knows: its candidates, who races still, and what each look said; one file that any look adds to."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from losslab.compare.statistics import bound_interval
from losslab.compare.wording import join_phrases
from losslab.errors import Refused
from losslab.files import write_json
from losslab.race.judge import Gap, Look
from losslab.race.levels import spend
from losslab.sweep.ledger import read_record

FILE = "race.json"


@dataclass
class State:
    """What a race knows; names are those of candidates."""

    difference: float  # what is worth finding; 0 before the first look if that is to follow from the noise
    claim: str  # what the race was asked to speak of
    racing: list[str]  # those that are trained on
    same: list[str] = field(default_factory=list)  # those that are the same as the leader; they wait
    # the others, and how far each is behind the best: see `describe_beaten`
    beaten: dict[str, dict[str, Any]] = field(default_factory=dict)
    never: dict[str, str] = field(default_factory=dict)  # those whose trainings fail, and why
    leader: str = ""  # the best of those that race
    planned: int = 0  # the number of seeds by which most is decided, as the first look has it; 0 before
    started: int = 0  # how many candidates there were at the first look
    # each with its number of seeds, who raced, the leader, and the gaps
    looks: list[dict[str, Any]] = field(default_factory=list)
    hours: float = 0.0  # that the race has run, over all its starts
    hopeless: dict[str, str] = field(default_factory=dict)  # those that no number of seeds would decide, and why
    said: list[str] = field(default_factory=list)  # the verdict at the end, in sentences

    @property
    def seeds(self) -> int:
        """After how many seeds the last look was."""
        return int(self.looks[-1]["seeds"]) if self.looks else 0

    @property
    def known(self) -> list[str]:
        """Those that are not beaten: they race, or are the same as the leader."""
        return [*self.racing, *self.same]

    @property
    def undecided(self) -> list[str]:
        """Those that race against the leader."""
        return [name for name in self.racing if name != self.leader]

    @property
    def decided(self) -> bool:
        """Whether all is decided, or no number of seeds would decide the rest."""
        return bool(self.looks) and all(name in self.hopeless for name in self.undecided)

    def have_raced(self) -> bool:
        """Tell whether all that race were in an earlier look."""
        return set(self.racing) <= {name for look in self.looks for name in look["raced"]}

    def spend(self, seeds: int) -> list[tuple[int, float]]:
        """Return the seeds of all looks, with the next one, and the share of the level that is spent with each."""
        before = [(int(look["seeds"]), float(look["spent"])) for look in self.looks]
        least = before[-1][1] if before else 0.0
        return [*before, (seeds, max(least, spend(seeds, self.planned) if self.planned else 0.0))]

    def add_look(
        self, seeds: int, level: float, names: list[str], look: Look, scales: Sequence[float], most: float
    ) -> None:
        """Add what a look said of the candidates of these names.

        Args:
            seeds: after how many the look was.
            names: of the candidates, by number.
            scales: makes per cent of each candidate's mean, or points, of a difference.
            most: the largest difference that is possible.
        """
        self.leader = names[look.leader]
        self.same = [names[number] for number in sorted(look.same)]
        self.hopeless = {names[number]: why for number, why in look.hopeless.items()}
        raced = list(self.racing)
        self.racing = [
            name for number, name in enumerate(names) if number not in look.beaten and number not in look.same
        ]
        gaps = {
            names[number]: {
                "ahead": self.leader,
                **describe_gap(gap, scales[number if gap.mean >= 0 else look.leader], most),
            }
            for number, gap in look.gaps.items()
        }
        for number, behind in look.beaten.items():
            rivals = {names[other]: describe_gap(gap, scales[number], most) for other, gap in behind.items()}
            gaps[names[number]] = {"ahead": self.leader, **rivals[self.leader]}
            self.beaten[names[number]] = {"rivals": rivals}
        for name, found in self.beaten.items():
            self.beaten[name] = describe_beaten(found["rivals"], self.leader, self.known)
        self.looks.append(
            {
                "seeds": seeds,
                "spent": self.spend(seeds)[-1][1],
                "level": level,
                "leader": self.leader,
                "raced": raced,
                "same": self.same,
                "gaps": gaps,
            }
        )

    def add_candidates(self, names: list[str]) -> list[str]:
        """Add those candidates that are new; return them."""
        new = [name for name in names if name not in {*self.known, *self.beaten, *self.never}]
        self.racing += new
        return new

    def write(self, folder: Path) -> None:
        """Write it down."""
        write_json(folder / FILE, asdict(self))


def describe_gap(gap: Gap, scale: float, most: float) -> dict[str, Any]:
    """Describe how far a candidate is behind another, in points, or in per cent of the one that is worse."""
    low, high = bound_interval(gap.mean * scale, gap.low * scale, gap.high * scale, most)
    return {"mean": gap.mean * scale, "low": low, "high": high, "n": gap.n}


def describe_beaten(rivals: dict[str, dict[str, Any]], leader: str, known: Sequence[str]) -> dict[str, Any]:
    """Describe how far a candidate that is beaten is behind the best, which is one of those that are not beaten.

    Args:
        rivals: how far it is behind each of those that were not beaten when it was.
        known: those that are not beaten now.

    Returns:
        Who is `ahead` of it and by what `mean`, with the bounds `low` and `high` that hold whichever of its `rivals` is
        the best. It is surely worse than the best where `low` is above 0; else one of them is at least as good.
    """
    left = {name: gap for name, gap in rivals.items() if name in known} or rivals
    ahead = leader if leader in left else max(left, key=lambda name: float(left[name]["mean"]))
    low, high = min(gap["low"] for gap in left.values()), max(gap["high"] for gap in left.values())
    return {"ahead": ahead, **left[ahead], "low": low, "high": high, "rivals": left}


def load_state(folder: Path) -> State | None:
    """Read what a race knows; nothing where there is none yet.

    Raises:
        Refused: where its file is not whole, or of other rules.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    found = read_record(file)
    usual = {
        name: (int, float) if isinstance(value, float) else type(value)
        for name, value in asdict(State(0.0, "", [])).items()
    }
    try:
        if any(not isinstance(value, usual.get(name, object)) for name, value in found.items()):
            raise TypeError
        state = State(**found)
    except TypeError:
        raise Refused(f"{file} is not whole: type name=ANOTHER for a race of its own") from None
    if any("rivals" not in found for found in state.beaten.values()):
        raise Refused(f"{file} was begun by an older losslab with other rules: type name=ANOTHER for a new race")
    return state


def read_state(folder: Path, difference: float, claim: str, names: list[str]) -> State:
    """Read what a race knows, or begin one.

    Raises:
        Refused: where the race was for another difference or claim, or had candidates that are not named now, or its
            file cannot be used.
    """
    state = load_state(folder)
    if state is None:
        return State(difference, claim, list(names))
    if difference and state.difference != difference:
        raise Refused(
            f"{folder} holds a race for difference={state.difference:g}, and what it said is for that: type "
            f"difference={state.difference:g}, or name=ANOTHER for a race of its own"
        )
    if state.claim != claim:
        raise Refused(
            f"{folder} holds a race with {f'claim={state.claim}' if state.claim else 'no claim='}, and what it said is "
            "for that: type the same, or name=ANOTHER for a race of its own"
        )
    if gone := [name for name in (*state.known, *state.beaten) if name not in names]:
        raise Refused(
            f"{folder} holds a race with {join_phrases(gone)}, too, and what it said is of all: type those as well, or "
            "name=ANOTHER for a race of its own"
        )
    return state

"""The valley's minima, and what the table of paths claims."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from losslab import paths
from losslab.config.catalogue import CONF, options
from losslab.errors import Refused
from losslab.paths import MINIMA, SADDLE, USUAL, Path2D, descend, draw, format_table, parse_words, valley
from tests.processes import ran

OPTIMIZERS = {name: file for name, file in options([str(CONF)], "optimizer").items() if name != "any"}
PLANAR = [name for name, file in OPTIMIZERS.items() if not file.get("hidden")]


@cache
def gone(name: str, steps: int = 200) -> Path2D:
    return descend(name, steps)


@pytest.mark.parametrize(("at", "rising"), [(MINIMA["local"], 2), (MINIMA["global"], 2), (SADDLE, 1)])
def test_slope_and_curvature_at_the_minima_and_the_saddle(at: tuple[float, float], rising: int) -> None:
    point = torch.tensor(at, dtype=torch.float64)
    slope = torch.func.grad(lambda p: valley(p[0], p[1]))(point)
    assert slope.abs().max() < 1e-12
    hessian = torch.autograd.functional.hessian(lambda p: valley(p[0], p[1]), point)  # type: ignore[no-untyped-call]
    curvature = torch.linalg.eigvalsh(hessian)
    assert int((curvature > 0).sum()) == rising
    assert curvature.max() < 2, "plain gradient descent at a learning rate of 1 stays"


def test_there_are_no_other_minima_and_the_values_are_those_of_the_docstring() -> None:
    ends = {
        tuple(minimize(lambda p: float(valley(p[0], p[1])), start, method="BFGS", tol=1e-10).x.round(3))
        for start in np.random.default_rng(0).uniform(-1, 1, (20, 2))
    }
    assert ends == set(MINIMA.values())
    assert paths.valley.__doc__ is not None
    for at, value in ((MINIMA["local"], "-0.002667"), (SADDLE, "0.001158"), (MINIMA["global"], "-0.036")):
        assert f"{valley(*at):.6f}".rstrip("0") == value
        assert value in paths.valley.__doc__


def test_momentum_rolls_through_the_local_minimum_in_which_the_others_stop() -> None:
    found = {name: gone(name).found for name in USUAL}
    assert found == {"sgd": "local", "momentum": "global", "adagrad": "local", "rmsprop": "local", "adam": "local"}
    for name in USUAL:
        slope = torch.func.grad(lambda p: valley(p[0], p[1]))(torch.tensor(gone(name).points[-1]).double())
        assert slope.norm() < 2e-3, "they have come to rest"
    lines = format_table([gone(name) for name in USUAL]).splitlines()
    assert lines[1].split() == ["sgd", "1", "200", "(-0.4000,", "0.1600)", "-0.002667", "local"]
    assert lines[2].split() == ["momentum", "0.1", "200", "(0.6000,", "0.3600)", "-0.036000", "global"]


@pytest.mark.parametrize("start", [(-0.75, 0.1), (-0.8, 0.3), (-0.85, 1.1), (-0.6, 1.1)])
def test_it_is_so_from_other_starts_too(start: tuple[float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "START", start)
    assert (descend("sgd", 200).found, descend("momentum", 200).found) == ("local", "global")


@pytest.mark.parametrize("name", PLANAR)
def test_every_optimizer_of_the_catalogue_goes_down_or_is_said_to_diverge(name: str) -> None:
    path = gone(name, 30 if name not in USUAL else 200)
    assert path.lr == OPTIMIZERS[name]["search"]["lr"][1]
    assert path.points[0] == paths.START
    assert path.diverged or valley(*path.points[-1]) < valley(*paths.START)
    assert path.diverged == (name == "schedule_free_sgd"), "whose rates go up to 10"
    assert ("diverged" in format_table([path])) == path.diverged


def test_sgd_and_momentum_are_their_formulas() -> None:
    def slope(w: np.ndarray) -> np.ndarray:
        x, y = w
        return np.array([-x * (y - x**2) + (x + 0.4) * (x + 0.1) * (x - 0.6), (y - x**2) / 2])

    for name, lr, momentum in (("sgd", 1.0, 0.0), ("momentum", 0.1, 0.9)):
        w, v = np.array(paths.START), np.zeros(2)
        for point in gone(name).points[:50]:
            np.testing.assert_allclose(point, w, atol=1e-9)
            v = momentum * v + slope(w)
            w = w - lr * v


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("optimizers=[sgd,adm]", "optimizers=adm is not an option; nearest: adam"),
        ("optimizers=[SGD]", "optimizers=SGD is called sgd here"),
        ("optimizers=[nag]", "optimizers=nag is called nesterov here"),
        ("optimizers=[]", r"optimizers=\[\] draws nothing"),
        ("optimizers=muon", "optimizers=muon is for hidden matrices"),
        ("steps=0", "steps=0 does not fit: it must be a whole number of at least 1"),
        ("steps=many", "steps=many does not fit"),
        ("step=3", "step is not a setting here; nearest: steps"),
        ("steps", "'steps' cannot be read: type steps=VALUE"),
        ("out=paths.jpg", "out=paths.jpg must end in .png: type out=paths.png"),
    ],
)
def test_each_mistake_is_told_in_one_sentence(typed: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence) as refused:
        parse_words(typed.split())
    assert "\n" not in str(refused.value)


def test_the_picture_shows_every_path_in_a_stroke_of_its_own() -> None:
    drawn = draw([gone(name) for name in USUAL])
    lines = [line for line in drawn.axes[0].lines if ", lr " in str(line.get_label())]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(USUAL)
    assert [str(line.get_label()).split(",")[0] for line in lines] == list(USUAL)
    for name, line in zip(USUAL, lines, strict=True):
        whole = np.asarray(line.get_xydata())
        dots = [np.asarray(each.get_xydata()) for each in drawn.axes[0].lines if each.get_marker() == "o"]
        assert any(np.array_equal(each, whole[::10]) for each in dots), "a dot every ten steps"
        values = [valley(x, y) - valley(*MINIMA["global"]) for x, y in gone(name).points]
        curves = [np.asarray(each.get_ydata()) for each in drawn.axes[1].lines]
        assert any(
            len(each) == 201 and np.allclose(np.maximum(each, paths.LEAST), np.maximum(values, paths.LEAST))
            for each in curves
        )
    assert drawn.axes[1].get_yscale() == "log"
    bottom, momentum = drawn.axes[1].get_ylim()[0], drawn.axes[1].lines[2]
    assert np.asarray(momentum.get_ydata())[-1] < bottom, "what is lower leaves the picture, not along its edge"
    for names, noted in ((USUAL, True), (["sgd"], False)):
        title = draw([gone(name) for name in names]).axes[1].get_title()
        assert title == ("a curve below the axis is within 0.0001 of the global minimum" if noted else "")
    assert drawn.axes[1].get_ylabel() == "value above the global minimum (log axis)"


def test_what_a_person_sees(tmp_path: Path) -> None:
    words = ("-m", "losslab.paths", "optimizers=[sgd,lbfgs]", "steps=20")
    done = ran(*words, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["optimizer", "sgd", "lbfgs", "note", "paths.png"]
    assert "say nothing of your task" in lines[-2]
    assert (tmp_path / "paths.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    refused = ran(*words, "out=none/a.png", folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(
        "losslab: out=none/a.png cannot be written, as there is no folder none: make it, or type out=a.png"
    )

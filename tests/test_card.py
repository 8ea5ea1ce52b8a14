"""The card of a loss: what it draws and prints is the loss itself, and each mistake is one sentence."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from losslab import card
from losslab.card import Card, compute, describe, parse_request
from losslab.config.catalogue import CONF, DESCRIPTIONS, fits, options
from losslab.config.check import configure
from losslab.errors import Refused
from losslab.page.card_picture import choose_limits, draw, split_jumps
from tests.conftest import some_now
from tests.losses.examples import LOSSES, TASKS, loss_named, prepared
from tests.processes import ran

PNG = b"\x89PNG\r\n\x1a\n"
NATURAL = {"dense": "regression", "labels": "multi_label", "index": "single_label", "one_hot": "single_label"}


@cache
def composed(task: str) -> DictConfig:
    return configure([f"task={task}"])


def cfg_of(name: str) -> DictConfig:
    """What `parse_request` composes, without composing: the loss's file in the configuration of its task."""
    cfg = composed(NATURAL[LOSSES[name]["target"]]).copy()
    OmegaConf.set_readonly(cfg, False)
    cfg.loss = {key: value for key, value in LOSSES[name].items() if key not in DESCRIPTIONS}
    cfg.run.choices.loss = name
    return cfg


@cache
def card_of(name: str) -> Card:
    return compute(cfg_of(name), {})


# by hand: what a perfect prediction costs (0 where it is not named), and what scores of 0 cost
PERFECT = {"poisson": np.mean([2 - 2 * np.log(2), 4 - 4 * np.log(4)]), "gaussian_nll": np.log(np.log(2)) / 2}
CHANCE: dict[str, Any] = {
    "mse": 1, "mae": 1, "sum_of_squares": 0.5, "huber": 0.5, "smooth_l1": 0.5, "log_cosh": np.log(np.cosh(1)),
    "msle": np.mean([np.log(4 / 3) ** 2, np.log(4 / 5) ** 2]),
    "rmsle": np.sqrt(np.mean([np.log(4 / 3) ** 2, np.log(4 / 5) ** 2])),
    "mape": 37.5, "smape": 100 * np.mean([2 / 5, 2 / 7]), "poisson": 3 - 3 * np.log(3), "quantile": 0.5,
    "tweedie": np.mean([2 * (-4 * y**0.5 + 2 * y / 3**0.5 + 2 * 3**0.5) for y in (2, 4)]),
    "gaussian_nll": (np.log(np.log(2)) + 1 / np.log(2)) / 2, "cosine_similarity": 1,
    **dict.fromkeys(("cross_entropy", "sparse_categorical_cross_entropy", "categorical_cross_entropy"), np.log(2)),
    **dict.fromkeys(("nll", "kl_div", "bce", "bce_probability", "soft_margin"), np.log(2)),
    "focal": np.log(2) / 4, "binary_focal": np.log(2) / 8, "poly": np.log(2) + 1, "square": 0.5, "multi_margin": 0.5,
    "generalized_cross_entropy": (1 - 0.5**0.7) / 0.7, "categorical_hinge": 1, "hinge": 1, "squared_hinge": 1,
    "asymmetric_single_label": np.log(2) * (0.95 + 0.05 / 16), "multi_label_margin": 0.5,
    "asymmetric": np.mean([np.log(2) / 2, -(0.45**4) * np.log(0.55)]), "soft_f1": 0.5, "dice": 0.5, "tversky": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_and_chance_are_what_the_formula_gives_by_hand(name: str) -> None:
    found = card_of(name)
    assert found.perfect == pytest.approx(PERFECT.get(name, 0.0), abs=1e-5)
    assert found.chance == pytest.approx(CHANCE[name], abs=1e-5)
    said = describe(found)
    assert found.perfect is not None
    assert re.search(rf"^  perfect   {re.escape(card.format_number(found.perfect))},", said, re.MULTILINE)
    assert re.search(rf"^  chance    {re.escape(card.format_number(found.chance))},", said, re.MULTILINE)


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_that_is_drawn_is_the_slope_of_the_loss_that_is_drawn(name: str) -> None:
    for curve in card_of(name).curves:
        rise, run = curve.loss[2:] - curve.loss[:-2], curve.scores[2:] - curve.scores[:-2]
        off = ~np.isclose(rise / run, curve.gradient[1:-1], rtol=0.02, atol=2e-3 * np.abs(curve.gradient).max() + 1e-6)
        assert off.sum() <= 6, "kinks aside, of which no loss has more than two"
        assert np.isfinite(curve.loss).all()


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_drawn_is_the_loss_of_the_scores(name: str) -> None:
    found = card_of(name)
    loss, task = loss_named(name), found.cfg.task.name
    right, *wrong = (curve for curve in found.curves if "score 2" not in curve.name)
    at = int(np.flatnonzero(right.x > 1)[0])
    score = torch.tensor(right.x[at], dtype=torch.float32)
    if task == "single_label":
        logits = torch.stack([score, torch.zeros(())])[None]
        view = {"logits": logits, "prediction": logits.softmax(1), "log_prediction": logits.log_softmax(1)}[loss.input]
        forms = [torch.tensor([0]), torch.tensor([1])] if loss.target == "index" else list(torch.eye(2)[:, None])
    elif task == "multi_label":
        logits = torch.stack([score, torch.zeros(())][: found.outputs])[None]
        view = logits.sigmoid() if loss.input == "prediction" else logits
        forms = list(torch.eye(2)[:, None, : found.outputs])
    else:
        target = torch.full((1, found.outputs), 2.0 + found.outputs)
        view = target + torch.tensor([[1.0, 0.0]])[:, : found.outputs] * score
        if loss.input in ("prediction", "heads"):
            view, target = view - 3, target - 3
        if loss.input == "heads":
            view = torch.tensor([[[float(view), *[0.0] * (loss.scores_per_target - 1)]]])
        forms = [target]
    for curve, form in zip([right, *wrong[: len(forms) - 1]], forms, strict=True):
        assert curve.loss[at] == pytest.approx(float(loss(view, form)), rel=1e-4)


def test_each_loss_is_drawn_in_the_task_that_is_most_its_own() -> None:
    for name in LOSSES:
        fitting = [task for task in TASKS if fits(TASKS[task], LOSSES[name])]
        assert NATURAL[LOSSES[name]["target"]] == min(fitting, key=lambda task: len(TASKS[task]["targets"]))
    for name, task in {"mae": "regression", "hinge": "multi_label", "nll": "single_label"}.items():
        assert parse_request([f"loss={name}", "vs=[]"])[0].task.name == task
    assert parse_request(["loss=mae", "vs=[]", "task=single_label"])[0].task.name == "single_label"


@pytest.mark.parametrize("name", some_now(LOSSES, list(LOSSES)[::6]))
def test_two_others_are_beside_it_unless_its_file_says_otherwise(name: str) -> None:
    task = NATURAL[LOSSES[name]["target"]]
    others = LOSSES[name].get("beside", options([str(CONF)], "task")[task]["task"]["beside"])
    assert list(parse_request([f"loss={name}"])[1]) == [other for other in others if other != name][:2]
    assert len([other for other in others if other != name]) >= 2 or name in ("mape", "smape", "quantile")
    for other in others:
        assert fits(TASKS[task], LOSSES[other])


def test_the_settings_that_are_typed_are_the_cards_and_not_the_others() -> None:
    found = compute(*parse_request(["loss=focal", "loss.gamma=5", "vs=[focal]"])[:2])
    assert found.chance == pytest.approx(np.log(2) / 32)
    names = list(dict.fromkeys(curve.name for curve in found.curves))
    assert names == ["focal (gamma=5)", "focal"]
    middle = {curve.name: float(curve.loss[card.POINTS // 2]) for curve in found.curves}
    assert middle == pytest.approx({"focal (gamma=5)": np.log(2) / 32, "focal": np.log(2) / 4})
    assert "loss.gamma=5 loss.weight=null" in describe(found)


def test_a_sum_is_drawn_beside_its_parts() -> None:
    found = compute(*parse_request(["loss=[bce,0.5*dice]"])[:2])
    total, bce, dice = (found.curves[index].loss for index in (0, 2, 4))
    assert [curve.name for curve in found.curves[::2]] == ["bce+0.5*dice", "bce", "dice"]
    np.testing.assert_allclose(total, bce + 0.5 * dice)
    mixed = compute(*parse_request(["loss=[mse,quantile]", "loss.parts.quantile.levels=[0.2,0.5]"])[:2])
    assert {curve.name for curve in mixed.curves if not curve.own} == {"mse", "quantile"}
    assert mixed.perfect == pytest.approx(0, abs=1e-6)
    assert "loss.parts.quantile.levels=[0.2, 0.5]" in describe(mixed)


def test_each_level_of_a_quantile_loss_has_a_curve() -> None:
    curves = {curve.name: curve for curve in card_of("quantile").curves}
    assert list(curves) == [f"quantile, level {level}" for level in (0.1, 0.5, 0.9)]
    for name, curve in curves.items():
        level = float(name.split()[-1])
        np.testing.assert_allclose(curve.gradient[[0, -1]], [-level / 3, (1 - level) / 3], rtol=1e-6)


def test_what_compares_outputs_gets_two() -> None:
    assert {name for name in LOSSES if card_of(name).outputs == 2 and NATURAL[LOSSES[name]["target"]][0] != "s"} == {
        "cosine_similarity",
        "multi_label_margin",
    }


@pytest.mark.parametrize(
    ("name", "jumps"),
    [
        ("mse", 0),
        ("mae", 1),
        ("huber", 0),
        ("quantile", 1),
        ("hinge", 1),
        ("squared_hinge", 0),
        ("focal", 0),
        ("bce", 0),
    ],
)
def test_a_gradient_that_jumps_is_drawn_with_a_gap_and_where_it_jumps(name: str, jumps: int) -> None:
    for curve in card_of(name).curves:
        assert split_jumps(curve.x, curve.loss)[2] == [], "no loss jumps"
        x, y, found = split_jumps(curve.x, curve.gradient)
        assert len(found) == jumps
        kept = np.isfinite(y)
        known = dict(zip(curve.x, curve.gradient, strict=True))
        assert len(set(x[kept])) >= len(curve.x) - 3 * jumps
        assert all(known[at] == value for at, value in zip(x[kept], y[kept], strict=True))
        for at, ends in found:
            assert abs(at - {"hinge": 1.0 - 2 * curve.side}.get(name, 0.0)) <= 0.02
            assert {*ends} <= {curve.gradient[0], curve.gradient[-1]}
            between = np.isnan(y).nonzero()[0]
            assert len(between) == 1
            assert x[between[0] - 1] <= at <= x[between[0] + 1]


@pytest.mark.parametrize("seed", range(20))
def test_steep_curves_do_not_jump_and_steps_do(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = np.linspace(-4, 4, card.POINTS)
    smooth = random.normal() * np.tanh(random.uniform(0.1, 8) * (x - random.normal())) + random.normal() * x
    assert split_jumps(x, smooth)[2] == []
    at = random.uniform(-3, 3)
    step = 3 * np.ptp(smooth) * random.choice([-1, 1])
    (jump,) = split_jumps(x, smooth + step * (x > at))[2]
    assert abs(jump[0] - at) <= 0.02
    assert jump[1][1] - jump[1][0] == pytest.approx(step, rel=0.2)


@pytest.mark.parametrize("name", ["mae", "focal"])
def test_perfect_and_chance_are_marked(name: str) -> None:
    found = card_of(name)
    drawn = draw(found)
    marks = {text.get_text(): text.xy[1] for text in drawn.axes[0].texts}  # type: ignore[attr-defined]
    assert marks == {"perfect": found.perfect, "chance": found.chance}
    lines = [np.asarray(line.get_ydata()).tolist() for line in drawn.axes[0].lines]
    levels = [line[0] for line in lines if len({*line}) == 1]
    assert {found.perfect, found.chance} <= {*levels}


@pytest.mark.parametrize("name", ["focal", "huber", "multi_label_margin", "quantile"])
def test_the_picture_is_a_png_whose_axes_hold_the_cards_own_curve(name: str, tmp_path: Path) -> None:
    found = card_of(name)
    drawn = draw(found)
    drawn.savefig(tmp_path / "card.png", dpi=40)
    assert (tmp_path / "card.png").read_bytes().startswith(PNG)
    assert all(panel.get_xlabel() for panel in drawn.axes[-2:])
    low, high = choose_limits(found.curves, "loss")
    assert all(low <= curve.loss.min() and curve.loss.max() <= high for curve in found.curves)


def test_a_loss_that_explodes_does_not_flatten_the_others() -> None:
    def of(name: str, own: bool, top: float) -> Any:
        line = np.array([0.0, top])
        return card.Curve(name, own, 0, line, line, line, line)

    assert choose_limits([of("a", True, 4.0), of("b", False, 2.0), of("c", False, 1e6)], "loss")[1] == pytest.approx(
        6.3
    )
    assert choose_limits([of("a", True, 0.2), of("b", False, 2.0)], "loss") == pytest.approx((-0.1, 2.1))


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "a card needs a loss: type loss=NAME, such as loss=focal"),
        ("loss=mae,mse", r"a card is of one loss: type loss=mae 'vs=\[mse\]', or, for their sum, 'loss=\[mae,mse\]'"),
        ("loss=focall", "loss=focall is not an option; nearest: focal"),
        ("loss=asl", "loss=asl is called asymmetric here: type loss=asymmetric"),
        ("loss=focal task=regression", "loss=focal wants logits and index targets, which task=regr"),
        ("loss=focal task=other", "task=other is not an option"),
        ("loss=focal loss.gamma=-1", "loss.gamma=-1 does not fit: it must be a number of at least 0"),
        ("loss=focal loss.gama=1", "loss.gama is not a setting of loss=focal; nearest: loss.gamma"),
        ("loss=focal gamma=1", "gamma is not a setting here; "),
        ("loss=focal optimizer=adam", "optimizer is not a setting here; "),
        ("loss=focal vs", "'vs' cannot be read: type vs=VALUE"),
        ("loss=focal vs=[maee]", "vs=maee is not an option: type vs= any of asymmetric, .*, cross_entropy, "),
        ("loss=focal vs=[mape]", "vs=mape does not fit task=single_label: type vs= any of .*, cross_entropy, "),
        ("loss=focal out=card.pdf", "out=card.pdf must end in .png: type out=card.png"),
        ("loss=focal out=none/card.png", "there is no folder none: make it, or type out=card.png"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_in_one_sentence(typed: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence) as refused:
        parse_request(typed.split())
    assert "\n" not in str(refused.value)


def test_settings_of_which_a_loss_cannot_be_made_are_refused() -> None:
    cfg = cfg_of("focal")
    cfg.loss.weight = [1.0, 2.0, 3.0]
    with pytest.raises(Refused, match=r"loss.weight has 3 numbers, but data=card has 2 outputs"):
        compute(cfg, {})


def test_every_header_has_its_parts() -> None:
    for name in options([str(CONF)], "loss"):
        header = card.read_header(name, [str(CONF)])
        assert not any(part.startswith(("not stated", "not described")) for part in header), name
        assert " to " in header.range
    examples = prepared("regression")[0].examples()[0]
    assert (examples.mean(), examples.std()) == (3, 1)


def test_what_a_person_sees(tmp_path: Path) -> None:
    done = ran("-m", "losslab.card", "loss=focal", "vs=[cross_entropy,square]", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "focal"
    assert lines[1] == "  is        Focal loss: mean of -weight (1 - p)^gamma log p, p ="
    assert lines[2].startswith(f"{' ' * 12}softmax(input)[target].")
    assert "  use when  most rows are easy and the rare hard ones matter" in lines
    assert all(len(line) <= 80 for line in lines)
    assert "  beside    cross_entropy, square" in lines
    assert (tmp_path / lines[-1]).read_bytes().startswith(PNG)
    refused = ran("-m", "losslab.card", "loss=foca", folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("losslab: loss=foca is not an option; nearest: focal")
    assert refused.stderr.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["card-focal.png"]


def test_mistakes_are_answered_before_torch_is_imported() -> None:
    program = (
        "import sys; from losslab import card, paths; "
        "card.parse_request(['loss=focal', 'vs=[]']); paths.parse_words([]);"
        "sys.exit(bool({'torch', 'pytorch_lightning', 'matplotlib'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

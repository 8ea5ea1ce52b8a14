"""Every public loss and optimizer of torch, Keras, timm and pytorch_optimizer is answered, as its library spells it."""

import inspect
import re
import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer
import torch
from hydra.errors import MissingConfigException
from hydra.utils import get_class

from losslab.config.catalogue import CONF, fits, options
from losslab.config.check import configure
from losslab.config.explain import explain_missing
from losslab.errors import Refused

KNOWN = {group: options([str(CONF)], group) for group in ("loss", "optimizer")}
KERAS = {  # keras.losses and keras.optimizers, release 3.14
    "loss": "BinaryCrossentropy BinaryFocalCrossentropy CTC CategoricalCrossentropy CategoricalFocalCrossentropy "
    "CategoricalGeneralizedCrossEntropy CategoricalHinge Circle CosineSimilarity Dice Hinge Huber "
    "KLDivergence LogCosh MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredError "
    "MeanSquaredLogarithmicError Poisson SparseCategoricalCrossentropy SquaredHinge Tversky mae mse mape "
    "msle kld binary_crossentropy kl_divergence mean_squared_error sparse_categorical_crossentropy",
    "optimizer": "Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer Muon Nadam RMSprop "
    "SGD ScheduleFreeAdamW",
}
TIMM = {  # timm.loss and timm.optim.list_optimizers(), release 1.0.31
    "loss": "AsymmetricLossMultiLabel AsymmetricLossSingleLabel BinaryCrossEntropy DistributionBalancedLoss "
    "JsdCrossEntropy LabelSmoothingCrossEntropy PolyBinaryCrossEntropy PolyCrossEntropy "
    "SoftTargetCrossEntropy TwoWayLoss ZlprLoss",
    "optimizer": "adabelief adadelta adafactor adafactorbv adafactorbvc adagrad adahessian adam adamax adamc adamp "
    "adamuon adamw adamwlegacy adan adanw adopt adoptc adoptw bnbadam bnbadam8bit bnbadamw bnbadamw8bit "
    "bnbademamix bnbademamix8bit bnblion bnblion8bit bnbsgd bnbsgd8bit cadafactor cadafactorbv "
    "cadafactorbvc cadamc cadamp cadamw cadan cadanw cadopt cadoptc cadoptw clamb clambw claprop clion "
    "clionc cmars cnadamc cnadamw crmsproptf csgdc csgdp csgdw fusedadam fusedadamw fusedlamb "
    "fusednovograd fusedsgd kron kronc kronw lamb lambc lambcd lambcw lambw laprop lapropc larc lars lion "
    "lionc madgrad madgradw mars momentum muon nadam nadamc nadamlegacy nadamuon nadamw nesterov "
    "nesterovw nlarc nlars nmuon novograd novogradc novogradw radabelief radam radamlegacy radamw rmsprop "
    "rmsproptf rmsproptfc rmsproptfw sgd sgdc sgdp sgdw AdafactorBigVision Lookahead NvNovoGrad",
}


def names(group: str) -> Iterator[str]:
    """The names that a library's user may type."""
    yield from KERAS[group].split()
    yield from TIMM[group].split()
    if group == "loss":
        yield from (name for name in dir(pytorch_optimizer) if name.endswith("Loss"))
        yield from (name for name in dir(torch.nn) if name.endswith("Loss"))
        yield from (f"torch.nn.{name}" for name in dir(torch.nn) if name.endswith("Loss"))
    else:
        yield from (f"torch.optim.{name}" for name in torch.optim.__all__ if name[0].isupper() and name != "Optimizer")
        yield from pytorch_optimizer.get_supported_optimizers()
        yield from (pytorch_optimizer.load_optimizer(n).__name__ for n in pytorch_optimizer.get_supported_optimizers())
        yield from (name for name in torch.optim.__all__ if name[0].isupper() and name != "Optimizer")


def answer(group: str, name: str) -> str:
    """What is printed where a name is typed; nothing where it is an option."""
    if name in KNOWN[group]:
        return ""
    return str(explain_missing(MissingConfigException("", f"{group}/{name}", sorted(KNOWN[group])), []))


def suggested(said: str) -> list[str]:
    """What an answer tells the user to type."""
    found = re.search(r"type ((?:\+?[a-z_]+[.\w]*=[^\s,;)]+ ?)+)", said)
    return shlex.split(found[1]) if found else []


@pytest.mark.parametrize("group", KNOWN)
def test_every_name_is_an_option_or_is_answered_and_what_it_tells_to_type_is_taken(
    group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("catalogue", "explain"):  # a thousand names, and the files are read once
        monkeypatch.setattr(f"losslab.config.{module}.options", lambda _, group: KNOWN[group])
    unanswered, refused, taken = [], [], set[tuple[str, ...]]()
    for name in dict.fromkeys(names(group)):
        spelled = {
            name,
            name.lower(),
            *([name.removesuffix("Loss"), f"{name.removesuffix('Loss')}Loss"] * (group == "loss")),
        }
        for each in sorted(spelled):
            said = answer(group, each)
            if not re.search(r"is called|is not an option here: |^$", said):
                unanswered.append(said)
            taken.add(tuple(suggested(said)))
    for words in sorted(taken - {()}):
        option = words[0].partition("=")[2]
        library, _, name = option.partition("-")
        there = option in KNOWN[group] or name in KNOWN[group].get(library, {}).get("rates", ())
        if not there or (len(words) > 1 and not composes(group, option, words)):
            refused.append(words)
    assert not unanswered
    assert not refused
    assert len(taken) > 20


def composes(group: str, option: str, words: tuple[str, ...]) -> bool:
    tasks = options([str(CONF)], "task").items()
    fitting = [name for name, task in tasks if group == "optimizer" or fits(task["task"], KNOWN["loss"][option])]
    try:
        configure([f"task={fitting[0]}", *words])
    except Refused:
        return False
    return True


def test_the_names_of_timm_are_the_installed_ones() -> None:
    timm = pytest.importorskip("timm.optim")
    assert {*timm.list_optimizers()} <= {*TIMM["optimizer"].split()}


CHANCE = torch.Generator().manual_seed(0)
X = torch.randn(6, 4, generator=CHANCE, dtype=torch.float64)
INDEX, LABELS = torch.tensor([0, 1, 2, 3, 0, 1]), (torch.rand(6, 4, generator=CHANCE) > 0.6).double()
P = X.sigmoid()


def made(name: str, **typed: Any) -> torch.nn.Module:
    """A loss as its file has it, with what is typed."""
    kind = get_class(KNOWN["loss"][name]["_target_"])
    keys = {key: value for key, value in KNOWN["loss"][name].items() if key in inspect.signature(kind).parameters}
    function: torch.nn.Module = kind(**{**keys, **typed})
    return function


SAME: dict[str, tuple[str, dict[str, Any], tuple[Any, Any], tuple[Any, Any]]] = {  # theirs: ours, as its answer says
    "BCEFocalLoss": ("binary_focal", {}, (P, LABELS), (X, LABELS)),
    "FocalLoss": ("binary_focal", {"alpha": None}, (X, LABELS), (X, LABELS)),
    "TverskyLoss": ("tversky", {"alpha": 0.5, "beta": 0.5}, (X, LABELS), (P, LABELS)),
    "timm AsymmetricLossMultiLabel": ("asymmetric", {}, (X, LABELS), (X, LABELS)),
    "timm LabelSmoothingCrossEntropy": ("cross_entropy", {"label_smoothing": 0.1}, (X, INDEX), (X, INDEX)),
    "timm SoftTargetCrossEntropy": ("categorical_cross_entropy", {}, (X, LABELS), (X, LABELS)),
    "timm PolyCrossEntropy": ("poly", {}, (X, INDEX), (X, INDEX)),
}


@pytest.mark.parametrize("name", SAME)
def test_a_loss_that_is_said_to_be_ours_has_our_values(name: str) -> None:
    library, _, kind = name.rpartition(" ")
    theirs = pytest.importorskip("timm.loss") if library else pytorch_optimizer
    ours, settings, (a, b), given = SAME[name]
    value = made(ours, **settings)(*given)
    if ours == "asymmetric":
        value = value * X.shape[1]  # loss.reduction=sum
    expected = getattr(theirs, kind)()(a, b)
    np.testing.assert_allclose(float(value), float(expected), rtol=1e-5)


def test_jaccard_follows_from_dice() -> None:
    dice = made("dice", alpha=0.5, beta=0.5)(P, LABELS)
    both = (P * LABELS).sum()
    assert float(2 * dice / (1 + dice)) == pytest.approx(float(1 - both / (P.sum() + LABELS.sum() - both)), rel=1e-5)

"""timm's models by name: a new head, any size and number of channels, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from losslab.config.check import configure
from losslab.errors import Refused
from losslab.models import find_head, from_timm
from losslab.train import train
from tests.conftest import Typed


def test_without_timm_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("losslab.config.by_name.find_spec", lambda _: None)
    with pytest.raises(Refused, match=r"model=timm-resnet18 needs timm: type pip install 'losslab\[timm\]'"):
        configure(["data=digits", "model=timm-resnet18"])


@pytest.fixture
def _timm() -> None:
    pytest.importorskip("timm")


@pytest.mark.usefixtures("_timm")
@pytest.mark.parametrize(
    ("name", "shape", "settings"),
    [
        ("test_resnet", (1, 8, 8), {}),
        ("test_resnet", (3, 40, 24), {"drop_rate": 0.1}),
        ("test_vit", (5, 32, 16), {}),
        ("test_efficientnet", (3, 32, 32), {}),
    ],
)
def test_a_model_has_the_head_and_the_input_of_the_data(
    name: str, shape: tuple[int, ...], settings: dict[str, Any]
) -> None:
    models = []
    for outputs in (7, 2):
        torch.manual_seed(0)
        models.append(from_timm(shape, outputs, name, **settings))
        assert models[-1].eval()(torch.rand(2, *shape)).shape == (2, outputs)
    below = [{k: v for k, v in m.state_dict().items() if v.shape[:1] not in ((7,), (2,))} for m in models]
    assert below[0].keys() == below[1].keys()
    for key, weight in below[0].items():
        assert torch.equal(weight, below[1][key]), key  # whatever the number of outputs
    assert {len(weight) for weight in find_head(models[0]).parameters()} == {7}


@pytest.mark.usefixtures("_timm", "undrawn")
def test_a_run_trains_it_and_is_named_for_it(typed: Typed) -> None:
    cfg = typed("data=digits", "model=timm-test_resnet", "trainer.max_epochs=1", "data.batch_size=256")
    summary = train(cfg)
    assert summary.folder.name.startswith("digits-timm-test_resnet-cross_entropy-")
    assert 0 < summary["test/accuracy"] <= 1


@pytest.mark.usefixtures("_timm")
@pytest.mark.parametrize(
    ("name", "shape", "settings", "sentence"),
    [
        ("resnet10tt", (3, 8, 8), {}, "is no model of timm's; nearest: resnet10t"),
        ("convnext_atto", (3, 8, 8), {}, "cannot take images of 8x8: 32x32 would fit"),
        ("test_resnet", (3, 8, 8), {"foo": 1}, "cannot be made for images of 8x8: .*foo"),
        ("hf_hub:any/thing", (3, 8, 8), {}, "is no model of timm's"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    name: str, shape: tuple[int, ...], settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        from_timm(shape, 2, name, **settings)


@pytest.mark.usefixtures("_timm")
def test_weights_that_cannot_be_had_are_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        Refused, match=r"the weights of test_resnet could not be downloaded .*: type model.pretrained=f"
    ):
        from_timm((3, 32, 32), 2, "test_resnet", pretrained=True)

"""Every model in conf/model takes what it says it takes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import resnet18 as torchvision_resnet18

from losslab.door import CONF, options
from losslab.models import BagOfWords, resnet18
from losslab.train import build, call

from .conftest import Typed

MODELS = options([str(CONF)], "model")
INPUTS: dict[str, list[tuple[tuple[int, ...], torch.Tensor]]] = {
    "vector": [((5,), torch.randn(4, 5))],
    "image": [((1, 8, 8), torch.randn(4, 1, 8, 8)), ((3, 32, 32), torch.randn(4, 3, 32, 32))],
    "tokens": [((100,), torch.randint(0, 100, (4, 7)))],
    "point": [((1,), torch.zeros(4, 1))],
}
TASK = {"vector": "data=diamonds", "image": "data=digits", "tokens": "data=movies", "point": "data=numbers"}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, model in MODELS.items() for kind in model["takes"]])
def test_every_model_turns_what_it_takes_into_scores(typed: Typed, name: str, kind: str) -> None:
    cfg = typed(TASK[kind], f"model={name}")
    for shape, x in INPUTS[kind]:
        model = call(cfg, "model", build(cfg, "model", "takes"), shape, 6)
        scores = model(x)
        assert scores.shape == (4, 6)
        scores.sum().backward()
        assert all(weight.grad is not None for weight in model.parameters())


def test_padding_is_no_word() -> None:
    model = BagOfWords((50,), 3).eval()
    torch.testing.assert_close(model(torch.tensor([[4, 9]])), model(torch.tensor([[0, 9, 4, 0, 0]])))


@pytest.mark.parametrize("channels", [1, 3])
def test_resnet_goes_on_from_weights_in_a_file(tmp_path: Path, channels: int) -> None:
    source = torchvision_resnet18(weights=None)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model: Any = resnet18((channels, 32, 32), 6, weights=str(tmp_path / "weights.pth"))
    torch.testing.assert_close(model.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
    grey = torch.randn(2, 1, 32, 32)
    source.fc = model.fc
    colour = grey.expand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            model.eval()(grey if channels == 1 else colour), source.eval()(colour), atol=1e-4, rtol=1e-4
        )


def test_resnet_refuses_other_channels_and_weights_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        resnet18((2, 8, 8), 3)
    with pytest.raises(ValueError, match=r"model.weights=none.pth is neither a file nor DEFAULT"):
        resnet18((3, 8, 8), 3, weights="none.pth")

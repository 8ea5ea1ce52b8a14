"""Every model in conf/model takes what it says it takes; those of torchvision are torchvision's but for their head."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.vision_transformer import interpolate_embeddings

from losslab.config.catalogue import CONF, options
from losslab.config.make import call, make
from losslab.errors import Refused
from losslab.models import BagOfWords, backbone, find_head, resize_positions
from losslab.optim.groups import group_parameters
from tests.conftest import Typed, some_now

MODELS = {name: option for name, option in options([str(CONF)], "model").items() if name != "timm"}
LARGE = [name for name, model in MODELS.items() if model["_target_"] == "losslab.models.backbone"]
TOO_SMALL = {"convnext_tiny": "8x8: 32x32 would fit", "vit_b_16": "16x16 patches, which do not fill one of 8x8"}
INPUTS: dict[str, list[tuple[tuple[int, ...], Tensor]]] = {
    "vector": [((5,), torch.randn(4, 5))],
    "image": [((1, 8, 8), torch.randn(4, 1, 8, 8)), ((3, 32, 32), torch.randn(4, 3, 32, 32))],
    "tokens": [((100,), torch.randint(0, 100, (4, 7)))],
    "point": [((1,), torch.zeros(4, 1))],
}
TASK = {"vector": "data=diamonds", "image": "data=digits", "tokens": "data=movies", "point": "data=numbers"}


KINDS = [(name, kind) for name, model in MODELS.items() for kind in model["takes"]]
SMALL = [(name, kind) for name, kind in KINDS if name not in LARGE or name == "resnet18"]


@pytest.mark.parametrize(("name", "kind"), some_now(KINDS, SMALL))
def test_every_model_turns_what_it_takes_into_scores(typed: Typed, name: str, kind: str) -> None:
    cfg = typed(TASK[kind], f"model={name}")
    for shape, x in INPUTS[kind]:
        waiting = make(cfg, "model")
        if shape == (1, 8, 8) and name in TOO_SMALL:
            with pytest.raises(Refused, match=TOO_SMALL[name]):
                call(cfg, "model", waiting, shape, 6)
            continue
        torch.manual_seed(0)
        model = call(cfg, "model", waiting, shape, 6)
        with torch.autocast("cpu", torch.bfloat16, enabled=shape == (3, 32, 32)):
            scores = model(x)
        assert scores.shape == (4, 6)
        scores.float().sum().backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_padding_is_no_word() -> None:
    model = BagOfWords((50,), 3).eval()
    torch.testing.assert_close(model(torch.tensor([[4, 9]])), model(torch.tensor([[0, 9, 4, 0, 0]])))


@pytest.mark.parametrize("hidden", [0, 4])
def test_bags_of_words_are_torchs_and_many_are_trained_as_one(hidden: int) -> None:
    models = [BagOfWords((50,), 3, hidden).double() for _ in range(3)]
    tokens = torch.randint(0, 50, (3, 6, 7)) * (torch.rand(3, 6, 7) < 0.7)
    stacked, _ = torch.func.stack_module_state(models)
    every = torch.func.vmap(lambda own, x: torch.func.functional_call(models[0], own, (x,)))(stacked, tokens)
    every.square().sum().backward()
    for job, model in enumerate(models):
        words, bias = model.words.weight, model.bias
        bags = nn.functional.embedding_bag(tokens[job], words, mode="sum", padding_idx=0)
        expected = model.scores(bags + bias)
        torch.testing.assert_close(model(tokens[job]), expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(every[job], expected, rtol=1e-12, atol=1e-12)
        expected.square().sum().backward()
        for name, weight in model.named_parameters():
            together = stacked[name].grad
            assert together is not None
            torch.testing.assert_close(together[job], weight.grad, rtol=1e-12, atol=1e-12)
        assert words.grad is not None
        assert not words.grad[0].any()


def test_a_bag_of_words_begins_as_torchs_embedding_bag_does() -> None:
    torch.manual_seed(3)
    model = BagOfWords((50,), 3, hidden=4)
    after = torch.rand(1)
    torch.manual_seed(3)
    bag = nn.EmbeddingBag(50, 4, mode="sum", padding_idx=0)
    nn.init.normal_(bag.weight, std=0.01)
    last = nn.Linear(4, 3)
    assert torch.equal(torch.rand(1), after)
    assert list(model.state_dict()) == ["bias", "words.weight", "scores.1.weight", "scores.1.bias"]
    for name, weight in {
        "words.weight": bag.weight,
        "scores.1.weight": last.weight,
        "scores.1.bias": last.bias,
    }.items():
        assert torch.equal(model.state_dict()[name], weight)


@pytest.fixture
def tiny_vit(monkeypatch: pytest.MonkeyPatch) -> None:
    """vit_b_16 with 1 layer of width 12, to be quick."""
    builder = torchvision.models.vision_transformer._vision_transformer

    def small(patch_size: int, *_: int, weights: Any, progress: bool, **keys: Any) -> nn.Module:
        keys = {key: value for key, value in keys.items() if not key.startswith(("num_l", "num_h", "hidden", "mlp"))}
        made: nn.Module = builder(patch_size, 1, 2, 12, 8, weights, progress, **keys)
        return made

    monkeypatch.setattr("torchvision.models.vision_transformer._vision_transformer", small)


@pytest.mark.parametrize("name", LARGE)
def test_the_head_is_the_replaced_layer_and_learns_at_its_own_rate(name: str) -> None:
    with torch.device("meta"):
        plain = torchvision.models.get_model(name)
        model = backbone((3, 32, 32), 7, name)
    prefix = "transformer." if name.startswith("vit") else ""
    theirs, ours = dict(plain.named_parameters()), dict(model.named_parameters())
    resized = {key for key, weight in ours.items() if weight.shape != theirs[key.removeprefix(prefix)].shape}
    replaced = {key for key in resized if not key.endswith("pos_embedding")}
    assert len(ours) == len(theirs)
    assert {key for key, weight in ours.items() if any(weight is p for p in find_head(model).parameters())} == replaced
    groups = group_parameters(nn.ModuleDict({"model": model, "loss": nn.Module()}), 1.0, backbone_lr=0.1)
    first, second = (group for group in groups if isinstance(group, dict))
    assert first["lr"] == 1.0
    assert {id(p) for p in first["params"]} == {id(ours[key]) for key in replaced}
    assert second["lr"] == 0.1
    assert len(second["params"]) == len(ours) - len(replaced)


@pytest.mark.usefixtures("tiny_vit")
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "vit_b_16"])
def test_the_same_seed_gives_the_same_backbone_whatever_the_number_of_outputs(name: str) -> None:
    states = []
    for outputs in (3, 3, 9):
        torch.manual_seed(0)
        states.append(backbone((3, 32, 32), outputs, name).state_dict())
    assert all(torch.equal(weight, states[1][key]) for key, weight in states[0].items())
    same = [key for key, weight in states[0].items() if torch.equal(weight, states[2][key])]
    assert len(same) == len(states[0]) - 2


@pytest.mark.usefixtures("tiny_vit")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "vit_b_16"])
def test_it_goes_on_from_weights_in_a_file(tmp_path: Path, name: str, channels: int) -> None:
    torch.manual_seed(0)
    source = torchvision.models.get_model(name, **({"image_size": 32} if name == "vit_b_16" else {}))
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model = backbone((channels, 32, 32), 6, name, weights=str(tmp_path / "weights.pth"))
    place = next(key for key, layer in source.named_modules() if layer is find_head(source))
    source.set_submodule(place, find_head(model))
    grey = torch.randn(2, 1, 32, 32)
    colour = grey.expand(2, 3, 32, 32)
    with torch.no_grad():
        ours = model.eval()(grey if channels == 1 else colour)
        torch.testing.assert_close(ours, source.eval()(colour), atol=1e-4, rtol=1e-4)


def test_a_head_of_the_same_size_is_taken_from_the_file_too(tmp_path: Path) -> None:
    source = torchvision.models.resnet18(num_classes=6)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model: Any = backbone((3, 32, 32), 6, "resnet18", weights=str(tmp_path / "weights.pth"))
    assert torch.equal(model.fc.weight, source.fc.weight)


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """torch.hub's download, to a folder of the test's, of a seeded ResNet-18; the addresses that were asked for."""
    asked: list[str] = []

    def to_file(url: str, file: str, hash_prefix: str, progress: bool) -> None:
        assert f"-{hash_prefix}" in url, "torchvision checks what it downloads"
        asked.append(url)
        torch.manual_seed(7)
        torch.save(torchvision.models.resnet18().state_dict(), file)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.download_url_to_file", to_file)
    return asked


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1"])
def test_torchvisions_own_weights_are_downloaded_once(download: list[str], weights: str) -> None:
    for outputs in (6, 4):
        model: Any = backbone((3, 32, 32), outputs, "resnet18", weights=weights)
        assert model.fc.out_features == outputs
    assert download == [torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url]
    torch.manual_seed(7)
    source = torchvision.models.resnet18()
    source.fc = model.fc
    assert all(torch.equal(weight, model.state_dict()[key]) for key, weight in source.state_dict().items())


def test_without_a_network_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(Refused, match=r"model.weights=DEFAULT could not be read .*no network.*: type the path of a st"):
        backbone((3, 32, 32), 3, "resnet18", weights="DEFAULT")


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (
            lambda: torchvision.models.resnet34().state_dict(),
            r"is no state dict of torchvision's resnet18 \(Unexpected key",
        ),
        (lambda: {"model": torchvision.models.resnet18().state_dict()}, r"is no state dict .* \(Missing key"),
        (lambda: [1, 2], "could not be read"),
        (lambda: nn.Linear(2, 2), "could not be read"),
    ],
    ids=["another model", "nested", "a list", "a pickled object"],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, state: Callable[[], Any], sentence: str) -> None:
    torch.save(state(), tmp_path / "weights.pth")
    with pytest.raises(Refused, match=sentence):
        backbone((3, 32, 32), 3, "resnet18", weights=str(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("shape", "keys", "sentence"),
    [
        ((2, 32, 32), {"name": "resnet18"}, "model.name=resnet18 takes images of 1 or 3 channels, not 2"),
        ((3, 32, 32), {"name": "resnet"}, "model.name=resnet is no classifier of torchvision's; nearest: resnet50"),
        ((3, 32, 32), {"name": "squeezenet1_1"}, "does not end in a linear layer"),
        ((3, 20, 40), {"name": "convnext_tiny"}, "cannot take images of 20x40: 32x32 would fit"),
        ((3, 140, 100), {"name": "vit_b_16"}, "do not fill one of 140x100: .* take images of 144x96"),
        ((3, 32, 32), {"name": "resnet18", "weights": "none.pth"}, "=none.pth is neither a file nor one of IMAGENET1K"),
    ],
)
def test_what_a_model_cannot_take_is_refused(shape: tuple[int, ...], keys: dict[str, str], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        backbone(shape, 3, **keys)


@pytest.mark.parametrize("weights", ["none.pth", "default", "3"])
def test_weights_that_are_not_there_are_refused_at_once(typed: Typed, weights: str) -> None:
    with pytest.raises(
        Refused, match=f"model.weights={weights} does not fit: it must be DEFAULT, .*, a file that exists"
    ):
        typed("data=digits", "model=resnet18", f"model.weights={weights}")


@pytest.mark.usefixtures("tiny_vit")
def test_an_oblong_image_is_its_patches_wherever_they_lie() -> None:
    """Four patches in a row are four in a square, of which torchvision makes the same scores."""
    torch.manual_seed(0)
    square = torchvision.models.vit_b_16(image_size=32, num_classes=5)
    nn.init.normal_(square.heads.head.weight)
    model = backbone((3, 16, 64), 5, "vit_b_16")
    model.load_state_dict({f"transformer.{key}": weight for key, weight in square.state_dict().items()})
    images = torch.randn(2, 3, 32, 32)
    row = torch.cat([images[..., :16, :], images[..., 16:, :]], -1)
    torch.testing.assert_close(model(row), square(images))
    assert backbone((3, 144, 96), 5, "vit_b_16")(torch.randn(2, 3, 144, 96)).shape == (2, 5)


@pytest.mark.parametrize("side", [2, 14, 20])
def test_position_embeddings_are_interpolated_as_torchvision_does_it(side: int) -> None:
    positions = torch.randn(1, 197, 6)
    expected = interpolate_embeddings(16 * side, 16, {"encoder.pos_embedding": positions})["encoder.pos_embedding"]
    torch.testing.assert_close(resize_positions(positions, side, side), expected)
    oblong = resize_positions(positions, 9, 6)
    assert oblong.shape == (1, 55, 6)
    corners = positions[0, [0, 1, 14, -14, -1]]
    torch.testing.assert_close(oblong[0, [0, 1, 6, -6, -1]], corners)


@pytest.mark.usefixtures("tiny_vit")
def test_a_vision_transformer_takes_its_positions_from_another_size(tmp_path: Path) -> None:
    source = torchvision.models.vit_b_16()
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model: Any = backbone((3, 48, 32), 6, "vit_b_16", weights=str(tmp_path / "weights.pth"))
    expected = resize_positions(source.encoder.pos_embedding.detach(), 3, 2)
    torch.testing.assert_close(model.transformer.encoder.pos_embedding.detach(), expected)
    assert torch.equal(model.transformer.conv_proj.weight, source.conv_proj.weight)

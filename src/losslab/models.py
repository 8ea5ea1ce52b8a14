"""Small models, and those of torchvision. Each takes the shape of one input and the number of outputs."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from losslab.errors import Refused, nearest
from losslab.files import check_archive


class Linear(nn.Sequential):
    """One linear layer on the flattened input.

    >>> Linear((1, 8, 8), 10)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self, shape: Sequence[int], outputs: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), outputs))


class SmoothClip(nn.Module):
    """Squash values into (-limit, limit): `x / sqrt(1 + (x / limit)^2)`, so that an outlier in a column stays bounded.

    >>> SmoothClip(3)(torch.tensor([0.1, 1.0, 100.0]))
    tensor([0.0999, 0.9487, 2.9987])

    Source: Holzmüller, Grinsztajn, Steinwart, Better by Default, NeurIPS 2024.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        return x / (1 + (x / self.limit) ** 2).sqrt()


class MLP(nn.Sequential):
    """Fully connected layers with ReLU on the flattened input.

    Args:
        shape: of one input.
        outputs: the number of scores.
        hidden: the width of the hidden layer, or one width for each.
        dropout: the share of hidden values that are dropped in training.
        input_dropout: the share of inputs that are dropped in training.
        clip: a bound on the size of inputs, see `SmoothClip`; `None` for none.

    >>> MLP((26,), 1, hidden=[64, 64])(torch.zeros(2, 26)).shape
    torch.Size([2, 1])
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        hidden: int | Sequence[int],
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        clip: float | None = None,
    ) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        layers += [SmoothClip(clip)] if clip else []
        layers += [nn.Dropout(input_dropout)] if input_dropout else []
        width = torch.Size(shape).numel()
        for wider in [hidden] if isinstance(hidden, int) else hidden:
            layers += [nn.Linear(width, wider), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
            width = wider
        super().__init__(*layers, nn.Linear(width, outputs))


class CNN(nn.Sequential):
    """Blocks of 3x3 convolution, batch norm, ReLU and 2x2 pooling, then global average pooling and a linear layer.

    >>> CNN((3, 32, 32), 10, channels=[16, 32])(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, shape: Sequence[int], outputs: int, channels: int | Sequence[int]) -> None:
        layers: list[nn.Module] = []
        width = shape[0]
        for wider in [channels] if isinstance(channels, int) else channels:
            layers += [nn.Conv2d(width, wider, 3, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
            layers += [nn.MaxPool2d(2, ceil_mode=True)]
            width = wider
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, outputs))


class BagOfWords(nn.Module):
    """The sum of an embedding per token, which is the scores or goes through one hidden layer.

    Args:
        shape: the number of token ids; id 0 is padding.
        hidden: the width of the hidden layer; 0 for none, which is a linear model of the words.
        dropout: the share of hidden values that are dropped in training.
        word_dropout: the share of words that are dropped in training.

    >>> BagOfWords((100,), 21)(torch.tensor([[3, 7, 0], [5, 0, 0]])).shape
    torch.Size([2, 21])
    """

    def __init__(
        self, shape: Sequence[int], outputs: int, hidden: int = 0, dropout: float = 0.0, word_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.keep = nn.Dropout(word_dropout)
        self.words = nn.Embedding(shape[0], hidden or outputs, padding_idx=0)
        nn.init.normal_(self.words.weight, std=0.01)
        self.bias = nn.Parameter(torch.zeros(hidden or outputs))
        after = [nn.ReLU(), *([nn.Dropout(dropout)] if dropout else []), nn.Linear(hidden, outputs)] if hidden else []
        self.scores = nn.Sequential(*after)

    def forward(self, tokens: Tensor) -> Tensor:
        kept = self.keep((tokens != 0).to(self.bias.dtype))
        vectors = self.words(tokens) * kept[..., None]  # nn.EmbeddingBag cannot run batched under vmap
        scores: Tensor = self.scores(vectors.sum(-2) + self.bias)
        return scores


def find_head(model: nn.Module) -> nn.Module:
    """Find the last layer that has parameters of its own; the layers before it are the backbone.

    >>> find_head(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Softmax(-1)))
    Linear(in_features=4, out_features=2, bias=True)
    """
    layers = [layer for layer in model.modules() if next(layer.parameters(recurse=False), None) is not None]
    return layers[-1] if layers else model


def backbone(shape: Sequence[int], outputs: int, name: str, weights: str | None = None) -> nn.Module:
    """Make torchvision's model of this name with a new last layer, for images of 1 or 3 channels.

    For one channel the weights of the three colours are added up: a grey image is one whose colours are equal. The same
    seed gives the same weights below the last layer, whatever the number of outputs.

    Args:
        name: as in torchvision, such as `resnet18`.
        weights: `None` for random ones; a name such as `DEFAULT` (ImageNet, downloaded once); or a file that holds
            torchvision's state dict. If its last layer has another size, that layer is not read.

    Raises:
        Refused: if the model cannot take such images, or the weights are missing or those of another model.

    >>> backbone((1, 28, 28), 10, "resnet18")(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])

    Source: https://docs.pytorch.org/vision/stable/models.html#classification
    """
    from torchvision.models import VisionTransformer

    channels, height, width = shape
    model = make_classifier(name, channels)
    grid = set_patches(model, name, height, width) if isinstance(model, VisionTransformer) else None
    last: Any = find_head(model)
    place = next(place for place, layer in model.named_modules() if layer is last)
    model.set_submodule(
        place, nn.Linear(last.in_features, outputs)
    )  # drawn last, so that all other draws stay the same
    if weights:
        load_weights(model, name, weights, place, grid)
    if channels == 1:
        first = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
        first.in_channels, first.weight = 1, nn.Parameter(first.weight.detach().sum(1, keepdim=True))
    whole = Oblong(model) if grid else model
    check_accepts(whole, name, channels, height, width)
    return whole


def from_timm(shape: Sequence[int], outputs: int, name: str, pretrained: bool = False, **settings: Any) -> nn.Module:
    """Make timm's model of this name with a new head, for images of this size and any number of channels.

    The same seed gives the same weights below the head, whatever the number of outputs.

    Args:
        name: as in timm, such as `resnet18` or `vit_tiny_patch16_224`.
        pretrained: whether to start from ImageNet's weights, which are downloaded once.
        settings: of the model's constructor, such as `drop_rate`.

    Raises:
        Refused: if timm has no such model, it cannot take such images, or its weights cannot be had.

    Source: https://huggingface.co/docs/timm
    """
    import timm

    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)  # what it tries again is told once, below
    channels, height, width = shape
    if not timm.is_model(name):
        raise Refused(f"model.name={name} is no model of timm's; {nearest(name, timm.list_models())}")
    given = {"pretrained": pretrained, "in_chans": channels, **settings}
    try:
        try:
            model: Any = timm.create_model(name, img_size=(height, width), **given)
        except TypeError as error:  # a convolutional network takes any size
            if "img_size" not in str(error):
                raise
            model = timm.create_model(name, **given)
    except (AssertionError, TypeError, ValueError) as error:
        raise Refused(f"model.name={name} cannot be made for images of {height}x{width}: {error}") from error
    except Exception as error:  # of the network, of many kinds
        if not pretrained:
            raise
        why = " ".join(str(error).split())[:150]
        raise Refused(
            f"model.pretrained=true: the weights of {name} could not be downloaded from huggingface.co ({why}): "
            "type model.pretrained=false, or try again with a network"
        ) from None
    model.reset_classifier(outputs)
    check_accepts(model, name, channels, height, width)
    made: nn.Module = model
    return made


def make_classifier(name: str, channels: int) -> Any:
    """Make torchvision's classifier of this name with random weights.

    Raises:
        Refused: if there is none, it does not take such images, or its last layer cannot be replaced.
    """
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        raise Refused(f"model.name={name} is no classifier of torchvision's; {nearest(name, names)}")
    if channels not in (1, 3):
        raise Refused(f"model.name={name} takes images of 1 or 3 channels, not {channels}")
    model: Any = models.get_model(name, weights=None)
    if not isinstance(find_head(model), nn.Linear):
        raise Refused(f"model.name={name} does not end in a linear layer, which could be replaced: type another name")
    return model


def set_patches(model: Any, name: str, height: int, width: int) -> tuple[int, int]:
    """Give a vision transformer a position embedding for each patch of such images; return the grid of patches.

    Raises:
        Refused: if patches do not fill an image.
    """
    patch = model.patch_size
    if height % patch or width % patch:
        fitting = [max(patch, round(side / patch) * patch) for side in (height, width)]
        raise Refused(
            f"model.name={name} cuts images into {patch}x{patch} patches, which do not fill one of "
            f"{height}x{width}: type another model, or take images of {fitting[0]}x{fitting[1]}"
        )
    rows, columns = height // patch, width // patch
    positions = torch.empty(1, 1 + rows * columns, model.hidden_dim)
    model.encoder.pos_embedding = nn.Parameter(positions.normal_(std=0.02))  # torchvision's own initialisation
    return rows, columns


def load_weights(model: Any, name: str, weights: str, place: str, grid: tuple[int, int] | None) -> None:
    """Load a state dict of torchvision's model of this name, but no last layer of another size.

    Args:
        model: with a new last layer.
        weights: see `backbone`.
        place: the name of the last layer.
        grid: the rows and columns of patches of a vision transformer.

    Raises:
        Refused: if they are another model's.
    """
    state, ours = read_weights(name, weights), model.state_dict()
    if grid and "encoder.pos_embedding" in state:
        state["encoder.pos_embedding"] = resize_positions(state["encoder.pos_embedding"], *grid)
    for key in (f"{place}.weight", f"{place}.bias"):
        if key in state and state[key].shape != ours[key].shape:
            state[key] = ours[key]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        what = " ".join(str(error).split()).partition(": ")[2][:150]
        raise Refused(f"model.weights={weights} is no state dict of torchvision's {name} ({what})") from None


class Oblong(nn.Module):
    """torchvision's vision transformer for images that need not be square.

    Source: Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, images: Tensor) -> Tensor:
        patches = self.transformer.conv_proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.transformer.class_token.expand(images.shape[0], -1, -1), patches], 1)
        scores: Tensor = self.transformer.heads(self.transformer.encoder(tokens)[:, 0])
        return scores


def resize_positions(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Interpolate position embeddings `(1, 1 + n n, D)` of a square of patches to `rows` x `columns` patches."""
    side = math.isqrt(positions.shape[1] - 1)
    grid = positions[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
    grid = functional.interpolate(grid, (rows, columns), mode="bicubic", align_corners=True)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], 1)  # the first is the class token's


def read_weights(name: str, weights: str) -> dict[str, Tensor]:
    """Read weights from a file, or by their name in torchvision, which downloads them to its cache.

    Raises:
        Refused: if there are none, or they cannot be read or downloaded.
    """
    from torchvision.models import get_model, get_model_weights

    file = Path(weights).expanduser()
    known = list(get_model_weights(name).__members__)
    if not file.is_file() and weights not in known:
        raise Refused(f"model.weights={weights} is neither a file nor one of {', '.join(known)}")
    try:
        if not file.is_file():
            named: dict[str, Tensor] = get_model(name, weights=weights).state_dict()
            return named
        check_archive(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
        return dict(state.items())
    except Exception as error:  # torch raises many kinds, for an unreadable file and for a missing network
        why = " ".join(str(error).split())[:150]
        raise Refused(
            f"model.weights={weights} could not be read ({why}): type the path of a state dict of torchvision's {name}"
        ) from None


def check_accepts(model: nn.Module, name: str, channels: int, height: int, width: int) -> None:
    """Refuse a model that cannot take images of this size."""
    if not accepts(model, channels, height, width):
        larger = next((side for side in (32, 64, 128, 224) if accepts(model, channels, side, side)), None)
        hint = f"{larger}x{larger} would fit, and model=cnn takes any size" if larger else "type another model"
        raise Refused(f"model.name={name} cannot take images of {height}x{width}: {hint}")


def accepts(model: nn.Module, channels: int, height: int, width: int) -> bool:
    """Say whether the model turns such images into one tensor of scores, by running it on shapes alone."""
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    shapes = {name: weight.to("meta") for name, weight in weights.items()}
    try:
        scores = torch.func.functional_call(model, shapes, torch.empty(2, channels, height, width, device="meta"))
    except (RuntimeError, ValueError, AssertionError):
        return False
    return isinstance(scores, Tensor)

"""Small models; large ones come from torchvision. Each takes the shape of one input and the number of outputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Linear(nn.Sequential):
    """One linear layer on the flattened input.

    >>> Linear((1, 8, 8), 10)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self, shape: Sequence[int], outputs: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), outputs))


class MLP(nn.Sequential):
    """Fully connected layers with ReLU, and dropout if asked for, on the flattened input.

    >>> MLP((26,), 1, hidden=[64, 64])(torch.zeros(2, 26)).shape
    torch.Size([2, 1])
    """

    def __init__(self, shape: Sequence[int], outputs: int, hidden: int | Sequence[int], dropout: float = 0.0) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        width = torch.Size(shape).numel()
        for wider in [hidden] if isinstance(hidden, int) else hidden:
            layers += [nn.Linear(width, wider), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
            width = wider
        super().__init__(*layers, nn.Linear(width, outputs))


class CNN(nn.Sequential):
    """Blocks of 3x3 convolution, batch norm, ReLU and 2x2 pooling, the mean over what is left, a linear layer.

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
    """The sum of a vector per token, straight to the scores or through one hidden layer.

    Args:
        shape: the number of token ids; id 0 is no token.
        hidden: width of the hidden layer; 0 for none, which is a linear model of the words.

    >>> BagOfWords((100,), 21)(torch.tensor([[3, 7, 0], [5, 0, 0]])).shape
    torch.Size([2, 21])
    """

    def __init__(self, shape: Sequence[int], outputs: int, hidden: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(shape[0], hidden or outputs, mode="sum", padding_idx=0)
        nn.init.normal_(self.words.weight, std=0.01)
        self.bias = nn.Parameter(torch.zeros(hidden or outputs))
        after = [nn.ReLU(), *([nn.Dropout(dropout)] if dropout else []), nn.Linear(hidden, outputs)] if hidden else []
        self.scores = nn.Sequential(*after)

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.scores(self.words(tokens) + self.bias)
        return scores


def resnet18(shape: Sequence[int], outputs: int, weights: str | None = None) -> nn.Module:
    """torchvision's ResNet-18 with a new last layer, and a first layer for 1 or 3 channels.

    Args:
        weights: `None` for random ones; a name such as `DEFAULT` (ImageNet, downloaded once); or a file that holds
            torchvision's state dict. For one channel the weights of the three colours are added up.

    Raises:
        ValueError: for images that do not have 1 or 3 channels, and for weights that are not there.

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
    """
    from torchvision.models import get_model

    if shape[0] not in (1, 3):
        raise ValueError(f"resnet18 takes images of 1 or 3 channels, not {shape[0]}")
    file = Path(weights).expanduser() if weights else None
    from_file = file if file and file.is_file() else None
    if weights and not from_file and weights not in ("DEFAULT", "IMAGENET1K_V1"):
        raise ValueError(f"model.weights={weights} is neither a file nor DEFAULT")
    model: Any = get_model("resnet18", weights=None if from_file else weights)
    if from_file:
        model.load_state_dict(torch.load(from_file, weights_only=True))
    if shape[0] == 1:
        colours = model.conv1.weight.data
        model.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        if weights:
            model.conv1.weight.data = colours.sum(1, keepdim=True)
    model.fc = nn.Linear(model.fc.in_features, outputs)
    whole: nn.Module = model
    return whole

"""Augmentation of training images, with random numbers of its own for each image."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from losslab.errors import Refused


class Augment(nn.Module):
    """Apply transforms of `torchvision.transforms.v2` to each image of a batch, on the images' device.

    Given a whole batch, a transform draws one crop for all images; so each image is transformed by itself. Random
    numbers come from torch's global generators.

    Args:
        transforms: by names of your own. One that still lacks its `size` (`_partial_: true`) gets that of the images.
        mixup: alpha of the Beta distribution by which `mix` mixes images; 0 is off.

    Raises:
        Refused: if the batch holds no images, or a transform changes their size or type.

    >>> from torchvision.transforms.v2 import RandomHorizontalFlip
    >>> images = torch.arange(8, dtype=torch.uint8).view(2, 1, 2, 2)
    >>> Augment({"flip": RandomHorizontalFlip(p=1.0)})(images)[0]
    tensor([[[1, 0],
             [3, 2]]], dtype=torch.uint8)
    """

    def __init__(self, transforms: Mapping[str, Any], mixup: float = 0.0) -> None:
        super().__init__()
        self.transforms, self.mixup = dict(transforms), mixup

    def forward(self, x: Tensor) -> Tensor:
        """Return images `(B, C, H, W)` of the same type, each transformed by itself."""
        if not self.transforms:
            return x
        if x.ndim != 4:
            raise Refused(f"augment= is for images, and the data gives {tuple(x.shape[1:])}: type augment=none")
        size = tuple(x.shape[-2:])
        made = [t(size=size) if isinstance(t, partial) else t for t in self.transforms.values()]
        every = nn.Sequential(*made)
        changed = torch.stack([every(image) for image in x])
        if changed.shape != x.shape or changed.dtype != x.dtype:
            raise Refused(
                f"augment.transforms ({', '.join(self.transforms)}) make {tuple(changed.shape[1:])} {changed.dtype} of "
                f"images that are {tuple(x.shape[1:])} {x.dtype}: name transforms that keep both"
            )
        return changed


def mix(x: Tensor, truth: tuple[Tensor, ...], alpha: float) -> tuple[Tensor, tuple[Tensor, ...], float]:
    """Mix inputs in pairs: `share x + (1 - share) x'`, where `share ~ Beta(alpha, alpha)`.

    `x'` are the same inputs in another order. The loss is then `share loss(scores, y) + (1 - share) loss(scores, y')`:
    for cross-entropies the loss of the mixed targets, and a sensible sum for every other loss.

    Args:
        x: inputs `(B, ...)`; bytes become float32.
        truth: targets `(B,)` or `(B, D)`, and weights `(B,)` where there are some.
        alpha: 0 changes nothing; 1 draws each share with equal probability.

    Returns:
        The mixed inputs, the targets `y'` of the others, and the share, one for the whole batch.

    Source: Zhang, Cissé, Dauphin & Lopez-Paz, mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """
    if alpha == 0:
        return x, truth, 1.0
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(x)).to(x.device)
    x = x if x.is_floating_point() else x.float()
    return share * x + (1 - share) * x[other], tuple(each[other] for each in truth), share

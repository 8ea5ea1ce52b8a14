"""Augmentation: torchvision's own, with random numbers for each image; and the mixing of images in pairs."""

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torchvision.transforms import v2

from losslab.config.catalogue import CONF, options
from losslab.data.augment import Augment, mix
from losslab.errors import Refused
from losslab.losses import Loss
from losslab.tasks import SingleLabel
from tests.conftest import Typed

IMAGES = torch.randint(0, 256, (64, 3, 24, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
OPTIONS = list(options([str(CONF)], "augment"))


def made(typed: Typed, name: str, *more: str) -> Augment | None:
    cfg = typed("data=digits", "model=linear", f"augment={name}", *more)
    augment: Augment | None = instantiate(cfg.augment, _convert_="all") if cfg.get("augment") else None
    return augment


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_keeps_shape_and_type_and_follows_from_the_seed(typed: Typed, name: str) -> None:
    augment = made(typed, name)
    if augment is None:
        assert name == "none"
        return
    torch.manual_seed(1)
    first = augment(IMAGES)
    torch.manual_seed(1)
    assert torch.equal(augment(IMAGES), first)
    assert (first.shape, first.dtype) == (IMAGES.shape, torch.uint8)
    assert torch.equal(augment(IMAGES), first) == (name == "mixup"), "which leaves the images to mix()"
    assert (augment.mixup > 0) == (name == "mixup")
    assert made(typed, name, "augment.mixup=0.4").mixup == 0.4  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in ("none", "mixup")])
def test_each_image_draws_for_itself(typed: Typed, name: str) -> None:
    augment = made(typed, name)
    assert augment
    torch.manual_seed(0)
    same = augment(IMAGES[:1].expand(40, -1, -1, -1))
    assert len({image.numpy().tobytes() for image in same}) > (1 if name == "flip" else 20)


def test_an_image_is_changed_as_torchvision_changes_it_alone(typed: Typed) -> None:
    augment = made(typed, "standard")
    assert augment
    chain = v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomResizedCrop((24, 16), scale=(0.7, 1.0), ratio=(0.8, 1.25), antialias=True),
            v2.ColorJitter(0.2, 0.2, 0.2),
            v2.RandomErasing(0.25, scale=(0.02, 0.2)),
        ]
    )
    torch.manual_seed(5)
    alone = torch.stack([chain(image) for image in IMAGES])
    torch.manual_seed(5)
    assert torch.equal(augment(IMAGES), alone)


def test_half_of_the_images_are_mirrored_and_the_others_left() -> None:
    torch.manual_seed(0)
    many = IMAGES.repeat(10, 1, 1, 1)
    found = Augment({"flip": v2.RandomHorizontalFlip()})(many)
    left = (found == many).flatten(1).all(1)
    mirrored = (found == many.flip(-1)).flatten(1).all(1)
    assert (left ^ mirrored).all()
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / 640**0.5)


def test_crops_lie_where_a_crop_can_lie(typed: Typed) -> None:
    """Every offset of the padded image is drawn, and nothing else is."""
    augment = made(typed, "crop_flip", "augment.transforms.crop.padding=1", "augment.transforms.flip.p=0")
    assert augment
    torch.manual_seed(0)
    padded = nn.functional.pad(IMAGES[0], (1, 1, 1, 1))
    places = {(i, j): padded[:, i : i + 24, j : j + 16].numpy().tobytes() for i in range(3) for j in range(3)}
    drawn = [image.numpy().tobytes() for image in augment(IMAGES[:1].expand(450, -1, -1, -1))]
    counts = np.array([drawn.count(place) for place in places.values()])
    assert counts.sum() == 450
    assert ((counts - 50) ** 2 / 50).sum() < 26.1, "chi-squared, 8 degrees of freedom, p = 0.001"


def test_what_it_cannot_change_is_refused() -> None:
    flip = {"flip": v2.RandomHorizontalFlip()}
    with pytest.raises(Refused, match=r"augment= is for images, and the data gives \(5,\): type augment=none"):
        Augment(flip)(torch.zeros(4, 5))
    with pytest.raises(Refused, match=r"augment.transforms \(cut\) make \(3, 8, 8\) .* name transforms that keep both"):
        Augment({"cut": v2.CenterCrop(8)})(IMAGES)


def test_mixing_is_the_line_between_two_images() -> None:
    x, y = torch.rand(32, 3, 4, 4), torch.arange(32)
    torch.manual_seed(0)
    mixed, (other,), share = mix(x, (y,), 1.0)
    assert sorted(other.tolist()) == y.tolist(), "the same images in another order"
    torch.testing.assert_close(mixed, torch.lerp(x[other], x, share))
    assert 0 < share < 1
    _, (moved, weight), _ = mix(x, (y, y / 2), 1.0)
    assert torch.equal(moved / 2, weight), "each with its own weight"
    torch.manual_seed(0)
    assert torch.equal(mix(x, (y,), 1.0)[0], mixed)
    whole, _, nothing = mix(x, (y,), 0)
    assert (nothing, torch.equal(whole, x)) == (1.0, True)
    images, _, share = mix(IMAGES, (y.repeat(2),), 0.4)
    assert images.dtype == torch.float32
    assert images.mean().item() == pytest.approx(IMAGES.float().mean().item(), rel=1e-5), "it keeps the mean"


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_drawn_from_beta(alpha: float) -> None:
    torch.manual_seed(0)
    shares = np.array([mix(torch.zeros(1, 1), (torch.zeros(1),), alpha)[2] for _ in range(4000)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert shares.mean() == pytest.approx(0.5, abs=4 * (variance / 4000) ** 0.5)
    assert shares.var() == pytest.approx(variance, rel=0.1)


def test_for_cross_entropy_two_losses_are_the_loss_of_mixed_targets() -> None:
    torch.manual_seed(0)
    scores: Tensor = torch.randn(16, 5, requires_grad=True)
    y = torch.arange(16) % 5
    _, (other,), share = mix(torch.zeros(16, 1), (y,), 1.0)
    loss = Loss(nn.CrossEntropyLoss(), "logits", "index")
    task = SingleLabel("single_label", "class", ["logits"], ["index"], yardstick="accuracy", mode="max")
    ours = share * loss.compute(task, scores, y) + (1 - share) * loss.compute(task, scores, other)
    soft = share * nn.functional.one_hot(y, 5) + (1 - share) * nn.functional.one_hot(other, 5)
    theirs = nn.functional.cross_entropy(scores, soft)
    torch.testing.assert_close(ours, theirs)
    for mine, torchs in zip(*(torch.autograd.grad(value, scores) for value in (ours, theirs)), strict=True):
        torch.testing.assert_close(mine, torchs)

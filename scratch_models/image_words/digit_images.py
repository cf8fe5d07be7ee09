"""Handwritten digits, 8 x 8 pixels each, and a classifier that says which digit an image shows.

Both are of scikit-learn, an extra. Source of the images: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten
Digits", UCI Machine Learning Repository, CC BY 4.0; scikit-learn brings its test part with it.

Shapes: N images.
"""

import importlib.util
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from configs import InputError

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 8
LARGEST_PIXEL = 16
HELD_OUT_SHARE = 0.2
MOVED_PIXELS, TURNED_RADIANS, SCALED = 0.4, 0.15, 0.1
"""The largest changes of `jittered`."""


@dataclass(frozen=True)
class Digits:
    """Images and what they show."""

    images: Tensor
    """Pixels from 0, which is paper, to 1, which is ink: (N, 8, 8)."""
    labels: Tensor
    """The digit of each: (N)."""


def require_scikit_learn() -> None:
    """Checks, before anything takes long, that the digits can be read.

    Raises:
        InputError: scikit-learn is missing.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise InputError("the digits are scikit-learn's, which is not installed: pip install 'graft-lm[images]'")


def load_digits(seed: int) -> tuple[Digits, Digits]:
    """The digits to train on and those held out, in an order that `seed` draws."""
    from sklearn import datasets

    loaded = datasets.load_digits()
    order = torch.randperm(len(loaded.target), generator=torch.Generator().manual_seed(seed))
    images = torch.tensor(loaded.images, dtype=torch.float32)[order] / LARGEST_PIXEL  # (N, 8, 8)
    labels = torch.tensor(loaded.target)[order]  # (N)
    held_out = round(HELD_OUT_SHARE * len(labels))
    return Digits(images[held_out:], labels[held_out:]), Digits(images[:held_out], labels[:held_out])


def jittered(digits: Digits, copies: int, seed: int) -> Digits:
    """So many copies of each digit, all of them moved, turned and scaled a little, each by other amounts.

    A model that is to write digits would know 1,400 of them by heart; so hardly any image is read twice.
    """
    generator = torch.Generator().manual_seed(seed)
    images, labels = digits.images.repeat(copies, 1, 1), digits.labels.repeat(copies)
    moves, angles, scales = (
        largest * (2 * torch.rand(len(labels), 2, generator=generator) - 1)
        for largest in (MOVED_PIXELS * 2 / SIDE, TURNED_RADIANS, SCALED)
    )
    cosines, sines, scale = angles[:, 0].cos(), angles[:, 0].sin(), 1 + scales[:, 0]
    turned = torch.stack([cosines, -sines, sines, cosines], dim=1).view(-1, 2, 2) * scale.view(-1, 1, 1)
    grid = F.affine_grid(
        torch.cat([turned, moves.unsqueeze(2)], dim=2), [len(labels), 1, SIDE, SIDE], align_corners=False
    )
    return Digits(F.grid_sample(images.unsqueeze(1), grid, align_corners=False).squeeze(1), labels)


class DigitClassifier:
    """A support vector machine with a Gaussian kernel, trained on real digits."""

    def __init__(self, digits: Digits) -> None:
        from sklearn.svm import SVC

        self.machine: Any = SVC().fit(digits.images.flatten(1).numpy(), digits.labels.numpy())

    def recognise(self, images: Tensor) -> Tensor:
        """The digit that each image shows most likely: (N, 8, 8) -> (N)."""
        return torch.from_numpy(self.machine.predict(images.flatten(1).numpy()))

    def recognised(self, digits: Digits) -> Tensor:
        """Whether each image is taken for what its label says: (N) of bool."""
        return self.recognise(digits.images) == digits.labels

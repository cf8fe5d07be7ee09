"""Digits that a GPT writes when asked by name: written, painted, recognised or not, shown in a grid."""

from typing import Any

import torch
from torch import Tensor

from scratch_models.decoding.generation import generate
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.image_words.autoencoder import PLACES, Autoencoder
from scratch_models.image_words.code_words import codes_of, prompt_of
from scratch_models.image_words.digit_images import NAMES, SIDE, Digits
from scratch_models.loop.seeds import mixed_seed
from tokenizer_ext.extension.extension import Extended
from tokenizer_ext.pages.plots import new_figure
from tokenizer_ext.pages.progress import tracked

SHOWN = 12


def write_digits(
    extended: Extended, codes: int, per_name: int, temperature: float, seed: int
) -> list[list[int] | None]:
    """The codes of so many digits of each name, zeros first; None where what was written is no image."""
    model: Any = extended.model
    written = []
    for number in tracked(range(per_name * len(NAMES)), "writing digits", "digits"):
        prompt = extended.tokenizer.encode(prompt_of(number // per_name))
        sampling = Sampling(temperature=temperature, seed=mixed_seed(seed, number))
        ids = list(generate(model, prompt, PLACES, sampling))
        written.append(codes_of(ids, extended.first_new_id, codes))
    return written


def paint_digits(autoencoder: Autoencoder, written: list[list[int] | None], per_name: int) -> Digits:
    """The images of codes, white where there are none, labelled by what was asked for."""
    images = torch.zeros(len(written), SIDE, SIDE)
    for place, codes in enumerate(written):
        if codes is not None:
            images[place] = autoencoder.decode(torch.tensor([codes]))[0]
    return Digits(images, torch.arange(len(NAMES)).repeat_interleave(per_name))


def share_seen(written: list[list[int] | None], read: Tensor) -> float:
    """The share of written digits whose codes, all of them, are those of an image that was read."""
    seen = set(map(tuple, read.tolist()))
    return sum(codes is not None and tuple(codes) in seen for codes in written) / len(written)


def plot_digits(real: Digits, repainted: Tensor, drawn: Digits, recognised: Tensor) -> Any:
    """A figure with a row a name: a real digit, the same through its codes, then drawn ones; wrong ones are framed."""
    per_name = len(drawn.labels) // len(NAMES)
    shown = min(SHOWN, per_name)
    figure = new_figure(8)
    axes = figure.subplots(len(NAMES), shown + 2)
    for label, name in enumerate(NAMES):
        example = int((real.labels == label).nonzero()[0])
        numbers = range(label * per_name, label * per_name + shown)
        images = [real.images[example], repainted[example], *drawn.images[list(numbers)]]
        wrong = [False, False, *(not bool(recognised[number]) for number in numbers)]
        for place, cell in enumerate(axes[label]):
            cell.imshow(images[place].numpy(), cmap="gray_r", vmin=0, vmax=1)
            cell.set(xticks=[], yticks=[])
            cell.spines[:].set(color="C3" if wrong[place] else "0.85", linewidth=2 if wrong[place] else 0.5)
        axes[label][0].set_ylabel(name, rotation=0, ha="right", va="center")
    for place, title in enumerate(["real", "codes", "asked for by name"][: shown + 2]):
        axes[0][place].set_title(title, fontsize=9, loc="left")
    return figure

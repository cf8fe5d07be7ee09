"""Figures of tokens, of counted pairs, and of text that a counted model writes."""

import random
from typing import Any

import torch
from torch.nn import functional as F

from scratch_models.corpus.vocabulary import CharacterVocabulary
from scratch_models.rungs.bigram import BigramLanguageModel, bigram_of_counts
from tokenizer_ext.bpe.bpe import BytePairEncoding, train_bpe
from tokenizer_ext.pages.plots import new_figure

LETTERS = "_abcdefghijklmnopqrstuvwxyz"
"""The underscore stands for all that is no letter."""


def bytes_per_token(text: str, _steps: int) -> Any:
    """How much text a token holds, against the size of the vocabulary."""
    cut = len(text) * 9 // 10
    learned, held_out = text[:cut], text[cut:]
    sizes = [256, 300, 400, 600, 1000, 1500, 2200, 3200]
    ranks = train_bpe([learned], max(sizes)).ranks
    smaller = [BytePairEncoding({token: rank for token, rank in ranks.items() if rank < size}) for size in sizes]
    figure = new_figure(3.5)
    axes = figure.subplots()
    for name, part in (("learned from", learned[: len(held_out)]), ("held out", held_out)):
        gained = [len(part.encode()) / len(bpe.encode(part)) for bpe in smaller]
        axes.plot(sizes, gained, marker="o", label=name)
    axes.set(xlabel="tokens of the vocabulary", ylabel="bytes a token")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def _letter_bigram(text: str) -> BigramLanguageModel:
    ids = [max(LETTERS.find(character), 0) for character in text.lower()]
    return bigram_of_counts(torch.tensor(ids), len(LETTERS))


def bigram_counts(text: str, _steps: int) -> Any:
    """The probability of each letter after each letter, as counted."""
    probabilities = _letter_bigram(text).token_embedding_table.weight.exp().tolist()
    figure = new_figure(6)
    axes = figure.subplots()
    shown = axes.imshow(probabilities, cmap="Blues")
    places = range(len(LETTERS))
    axes.set_xticks(places, [*LETTERS])
    axes.set_yticks(places, [*LETTERS])
    axes.set(xlabel="next character", ylabel="this character (_ is all that is no letter)")
    figure.colorbar(shown, label="probability")
    return figure


def temperature(text: str, _steps: int) -> Any:
    """What comes after a `t`, at four temperatures."""
    logits = _letter_bigram(text).token_embedding_table.weight.detach()[LETTERS.index("t")]
    figure = new_figure(4)
    axes = figure.subplots(2, 2, sharex=True)
    for place, heat in zip(axes.flat, (0.3, 0.8, 1.0, 2.0), strict=True):
        place.bar([*LETTERS], (logits / heat).softmax(dim=0).tolist())
        place.set_title(f"temperature {heat}", fontsize=10)
        place.tick_params(axis="x", labelsize=7)
    figure.supylabel("probability of the next letter after t")
    return figure


def _written(model: BigramLanguageModel, first: int, count: int, seed: int) -> list[int]:
    """What a bigram writes at temperature 0.9: as `generate`, without a tensor for every character."""
    chances = (model.token_embedding_table.weight / 0.9).softmax(dim=1).tolist()
    generator = random.Random(seed)
    ids = [first]
    while len(ids) < count:
        ids += generator.choices(range(len(chances)), chances[ids[-1]])
    return ids


@torch.no_grad()
def _loss(model: BigramLanguageModel, ids: torch.Tensor) -> float:
    return float(F.cross_entropy(model(ids[None, :-1])[0], ids[1:]))


def collapse(text: str, steps: int) -> Any:
    """Models that learn from the text of the model before them, with and without the real text beside it.

    Shumailov et al. 2024, "AI models collapse when trained on recursively generated data"; with the real text kept,
    Gerstgrasser et al. 2024, "Is Model Collapse Inevitable?".
    """
    vocabulary = CharacterVocabulary.from_text(text)
    real = vocabulary.encode(text[: 20 * steps])
    held_out = torch.tensor(vocabulary.encode(text[-50_000:]))
    figure = new_figure(3.5)
    axes = figure.subplots()
    for name, kept in (("only what the model before it wrote", []), ("beside the real text", real)):
        losses, learned = [], real
        for generation in range(10):
            model = bigram_of_counts(torch.tensor(learned), len(vocabulary))
            losses.append(_loss(model, held_out))
            learned = [*kept, *_written(model, real[0], len(real), seed=generation)]
        axes.plot(range(1, 11), losses, marker="o", label=name)
    axes.set(xlabel="generation", ylabel="held-out loss, nats")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure

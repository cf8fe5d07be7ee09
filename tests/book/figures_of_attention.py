"""Figures of what attends to what, and of positions that turn."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scratch_models.corpus.vocabulary import CharacterVocabulary
from scratch_models.rungs.attention_heads import Head, Heads
from scratch_models.rungs.averaging import average_by_product
from scratch_models.rungs.llama import rotary_turns, turn
from scratch_models.rungs.one_layer import OneLayerConfig, OneLayerModel
from tests.book.figures_of_learning import as_ids, losses_of_training
from tokenizer_ext.pages.plots import new_figure

BLOCK = 24


def _trained(text: str, steps: int, heads: int) -> tuple[OneLayerModel, CharacterVocabulary]:
    vocabulary, ids = as_ids(text)
    torch.manual_seed(0)
    shape = OneLayerConfig(vocabulary_size=len(vocabulary), block_size=BLOCK, width=64, heads=heads, mixing="attention")
    model = OneLayerModel(shape)
    list(losses_of_training(model, ids, steps=steps, block_size=BLOCK, learning_rate=1e-2))
    return model, vocabulary


def _weights(model: OneLayerModel, ids: Tensor) -> list[Tensor]:
    """The (T, T) weights of each head for one row."""
    stream = model.token_embedding_table(ids) + model.position_embedding_table(torch.arange(len(ids)))
    assert isinstance(model.mixing, Heads)
    heads = [head for head in model.mixing.heads if isinstance(head, Head)]
    return [head.weights(stream[None])[0].detach() for head in heads]


def _show(axes: Any, weights: Tensor, characters: Sequence[str], title: str) -> None:
    shown = [character.replace("\n", "¶").replace(" ", "␣") for character in characters]
    places = range(len(shown))
    axes.imshow(weights.tolist(), cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(places, shown, fontsize=6)
    axes.set_yticks(places, shown, fontsize=6)
    axes.set_title(title, fontsize=9)


def one_head(text: str, steps: int) -> Any:
    """The weights by which tokens read the past: equal ones, and those of a head before and after training."""
    row = text[:BLOCK]
    figure = new_figure(3.3)
    places = figure.subplots(1, 3)
    _show(places[0], average_by_product(torch.eye(BLOCK)[None])[0], row, "the mean of the past")
    for axes, taken, title in ((places[1], 0, "a head, not trained"), (places[2], steps, "the same head, trained")):
        model, vocabulary = _trained(text, taken, 1)
        _show(axes, _weights(model, torch.tensor(vocabulary.encode(row)))[0], row, title)
    return figure


def several_heads(text: str, steps: int) -> Any:
    """The weights of four heads that were trained side by side."""
    row = text[:BLOCK]
    model, vocabulary = _trained(text, steps, 4)
    figure = new_figure(8)
    found = _weights(model, torch.tensor(vocabulary.encode(row)))
    for number, (axes, weights) in enumerate(zip(figure.subplots(2, 2).flat, found, strict=True), 1):
        _show(axes, weights, row, f"head {number}")
    return figure


def rotary(_text: str, _steps: int) -> Any:
    """The product of a turned query and a turned key against how far apart they stand."""
    T, K = 200, 64
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(K, generator=generator)
    turns = rotary_turns(T, K, 10_000.0)
    turned = turn(vector.expand(1, 1, T, K), turns)[0, 0]  # (T, K)
    products = (turned @ turned.T / vector.pow(2).sum()).tolist()
    figure = new_figure(3)
    axes = figure.subplots()
    for place in (50, 100, 150):
        axes.plot(range(-50, 50), products[place][place - 50 : place + 50], label=f"query at {place}", alpha=0.7)
    axes.set(xlabel="place of the key minus place of the query", ylabel="product of equal vectors")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure

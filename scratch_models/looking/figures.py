"""The figures of a page: what was read, as numbers and texts that JSON holds.

Shapes: T tokens of the prompt, V rows of the head, D width, H heads of a layer.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from configs import InputError
from scratch_models.looking.neighbours import SHOWN, Direction, find_direction, nearest_to
from scratch_models.looking.reading import Reading

MAX_WEIGHTS = 5_000_000
"""Numbers of attention on one page: 27 MB."""
NEXT_SHOWN, LENS_SHOWN = 20, 5


def make_figures(
    reading: Reading, table: Tensor, texts: Mapping[int, str], directions: Sequence[str], about: Mapping[str, Any]
) -> dict[str, Any]:
    """All that the page shows; `about` says of what, `table` is the embedding.

    Raises:
        InputError: the prompt is too long for a page of all attention.
    """
    probabilities = reading.logits.double().softmax(dim=-1)  # (T, V)
    rows = table.detach().float()[: max(texts) + 1]  # (V, D), without padding
    ids = list(dict.fromkeys(reading.ids))
    return {
        **about,
        "ids": list(reading.ids),
        "texts": [_text(texts, id_) for id_ in reading.ids],
        "left_out": dict(reading.left_out),
        "attention": pack_attention(reading.attention) if reading.attention else None,
        "lens": read_lens(reading, texts),
        "next": [likeliest(row, texts, NEXT_SHOWN) for row in probabilities],
        "nearest": [{"id": id_, "text": _text(texts, id_), "rows": _named(_others(id_, rows), texts)} for id_ in ids],
        "directions": [_describe(find_direction(text, rows, texts), texts) for text in directions],
    }


def pack_attention(layers: Sequence[Tensor]) -> dict[str, Any]:
    """The weights of all layers, (H, T, T) each: their lower triangles row by row, as base64 of little-endian float32.

    Raises:
        InputError: they are too many for a page.

    >>> packed = pack_attention([torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])])
    >>> packed["layers"], packed["heads"], unpack_attention(packed)[0].tolist()
    (1, 1, [[[1.0, 0.0], [0.25, 0.75]]])
    """
    weights = torch.stack([layer.float().cpu() for layer in layers])  # (layers, H, T, T)
    tokens = weights.shape[-1]
    past, later = torch.tril_indices(tokens, tokens)
    assert not weights.triu(1).any(), "a causal model reads nothing of what comes later"
    triangles = weights[:, :, past, later]  # (layers, H, T * (T + 1) / 2)
    if triangles.numel() > MAX_WEIGHTS:
        fits = next(T for T in range(tokens, 0, -1) if triangles[:, :, : T * (T + 1) // 2].numel() <= MAX_WEIGHTS)
        raise InputError(
            f"prompt: {tokens} tokens, expected at most {fits}: a page holds {MAX_WEIGHTS:,} weights of attention, and "
            f"this model has {len(layers)} layers of {weights.shape[1]} heads: shorten the text"
        )
    packed = base64.b64encode(triangles.numpy().astype("<f4").tobytes()).decode()
    return {"layers": len(layers), "heads": weights.shape[1], "tokens": tokens, "weights": packed}


def unpack_attention(packed: Mapping[str, Any]) -> Tensor:
    """What `pack_attention` packed: (layers, H, T, T)."""
    tokens = packed["tokens"]
    numbers = torch.frombuffer(bytearray(base64.b64decode(packed["weights"])), dtype=torch.float32)
    weights = torch.zeros(packed["layers"], packed["heads"], tokens, tokens)
    past, later = torch.tril_indices(tokens, tokens)
    weights[:, :, past, later] = numbers.view(packed["layers"], packed["heads"], -1)
    return weights


def read_lens(reading: Reading, texts: Mapping[int, str]) -> list[list[dict[str, Any]]]:
    """What the head says of each token's stream before the first layer and after each, and of the token that follows.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
    """
    stages = []
    for normed in reading.normed:
        assert reading.head is not None
        probabilities = reading.head(normed).detach().double().softmax(dim=-1)  # (T, V)
        following = [*reading.ids[1:], None]
        stages.append(
            [
                {
                    "top": likeliest(row, texts, LENS_SHOWN),
                    "actual": None if id_ is None else _rounded(float(row[id_])),
                }
                for row, id_ in zip(probabilities, following, strict=True)
            ]
        )
    return stages


def likeliest(probabilities: Tensor, texts: Mapping[int, str], shown: int) -> list[dict[str, Any]]:
    """The tokens with the most probability, (V), the likeliest first."""
    best = probabilities.topk(min(shown, len(probabilities)))
    return [
        {"id": id_, "text": _text(texts, id_), "probability": _rounded(probability)}
        for id_, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _others(id_: int, rows: Tensor) -> list[tuple[int, float]]:
    return [near for near in nearest_to(rows[id_], rows, SHOWN + 1) if near[0] != id_][:SHOWN]


def _describe(direction: Direction, texts: Mapping[int, str]) -> dict[str, Any]:
    nearest = _named(direction.nearest, texts)
    tokens = [_text(texts, id_) for id_ in direction.ids]
    return {
        "text": direction.text,
        "missing": list(direction.missing),
        "tokens": tokens,
        "rows": [{**row, "asked": row["id"] in direction.ids} for row in nearest],
    }


def _named(nearest: Sequence[tuple[int, float]], texts: Mapping[int, str]) -> list[dict[str, Any]]:
    return [{"id": id_, "text": _text(texts, id_), "cosine": _rounded(cosine)} for id_, cosine in nearest]


def _text(texts: Mapping[int, str], id_: int) -> str:
    return texts.get(id_, f"(row {id_}, no token)")


def _rounded(number: float) -> float:
    """Seven digits, which is what single precision holds."""
    return float(f"{number:.7g}")

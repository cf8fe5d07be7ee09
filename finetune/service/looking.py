"""Served models that are looked into while they read a prompt; the last few that were found are kept."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from configs import InputError
from finetune.conversations.messages import Message
from finetune.service.own_forward import own_forward
from finetune.serving.served_model import ServedModel
from scratch_models.looking.looked import Looked, add_lens, look_at
from scratch_models.looking.reading import Reading
from scratch_models.looking.token_texts import token_texts
from scratch_models.looking.transformers_reading import check_kind, read_with_transformers

MOST_TOKENS = 96
"""Of a prompt: every weight of attention of it is kept, and a head is shown as a table."""
KEPT = 16


@dataclass
class _Found:
    looked: Looked
    reading: Reading | None
    """What the lens is read from; it holds the model's head, so it goes once the lens is there."""
    texts: Mapping[int, str]


class ModelsLookedInto:
    """What was found of each model and prompt; a part of it is shown at a time, so it is asked for again and again."""

    def __init__(self, open_model: Callable[[str], ServedModel]) -> None:
        self._open, self._lock = open_model, threading.Lock()
        self._found: OrderedDict[tuple[str, str, bool], _Found] = OrderedDict()

    def look(self, name: str, prompt: str, *, in_chat: bool = False) -> Looked:
        """What the model computes of a prompt, taken as a text to go on with, or as a question in its chat format.

        The lens is not in it before it was asked for once.

        Raises:
            InputError: there is no such model, it is of a kind that cannot be looked into, or the prompt is too long.
        """
        return self._find(name, prompt, in_chat=in_chat).looked

    def look_through_lens(self, name: str, prompt: str, *, in_chat: bool = False) -> Looked:
        """The same with what the head says after each layer.

        Raises:
            InputError: the same.
        """
        found = self._find(name, prompt, in_chat=in_chat)
        if (reading := found.reading) is not None:
            with torch.inference_mode():
                found.looked = add_lens(found.looked, reading, found.texts)
            found.reading = None
        return found.looked

    def _find(self, name: str, prompt: str, *, in_chat: bool) -> _Found:
        key = (name, prompt, in_chat)
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        served = self._open(name)
        reading, texts = read_served(served, prompt, in_chat=in_chat), token_texts(served.side.tokenizer)
        found = _Found(look_at(reading, texts), reading, texts)
        with self._lock:
            self._found[key] = found
            while len(self._found) > KEPT:
                self._found.popitem(last=False)
        return found


@torch.inference_mode()
def read_served(served: ServedModel, prompt: str, *, in_chat: bool = False) -> Reading:
    """What one model computes of a prompt.

    Raises:
        InputError: the model is of a kind that cannot be looked into, or the prompt is empty or too long.
    """
    side = served.side
    check_kind(side.model.config.model_type, side.name)
    if not prompt:
        raise InputError("prompt: is empty, expected text to read")
    ids = list(served.encode_chat([Message("user", prompt)]).ids) if in_chat else side.tokenizer.encode(prompt)
    if len(ids) > MOST_TOKENS:
        raise InputError(f"prompt: {len(ids):,} tokens, expected at most {MOST_TOKENS}: shorten the text")
    return read_with_transformers(own_forward(served), ids, side.name)


def describe_looked_into(name: str, served: ServedModel) -> str:
    """Which weights are looked at, in words."""
    if served.adapter is None:
        return f"{name} ({served.side.identity}): the weights that also answer."
    return (
        f"{name} ({served.side.identity}): its adapter is applied to the base that lies in memory once, so what is "
        "shown is the assistant, not the base."
    )

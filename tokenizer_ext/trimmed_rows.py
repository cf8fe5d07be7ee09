"""The tables of a model with some of their rows, and the ids in its settings mapped to where these rows now are."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tokenizer_ext.certificate import WeightHashes
from tokenizer_ext.embeddings import find_tables

_SETTINGS_OF_IDS = ("_token_id", "_token_ids", "suppress_tokens", "bad_words_ids")


def named_ids(model: PreTrainedModel) -> set[int]:
    """The ids that the settings of the model name, such as where text ends, as far as they have rows."""
    rows = find_tables(model).embedding.num_embeddings
    padding = find_tables(model).embedding.padding_idx
    named = {id_ for settings, name in _id_settings(model) for id_ in _flat(getattr(settings, name))}
    return {id_ for id_ in [*named, padding] if id_ is not None and 0 <= id_ < rows}


def select_rows(model: PreTrainedModel, ids: Sequence[int]) -> None:
    """Keeps the rows of `ids`, in this order, in place; ids in the settings of the model become their places."""
    tables = find_tables(model)
    assert tables.head is not None
    tied = tables.tied
    tables.embedding.weight = _selected(tables.embedding.weight, ids)
    tables.head.weight = tables.embedding.weight if tied else _selected(tables.head.weight, ids)
    if tables.head.bias is not None:
        tables.head.bias = _selected(tables.head.bias, ids)
    tables.embedding.num_embeddings = tables.head.out_features = len(ids)
    new_ids = {id_: place for place, id_ in enumerate(ids)}
    if tables.embedding.padding_idx is not None:
        tables.embedding.padding_idx = new_ids[tables.embedding.padding_idx]
    for settings, name in _id_settings(model):
        setattr(settings, name, _mapped(getattr(settings, name), new_ids))
    whole: Any = model
    whole.config.get_text_config().vocab_size = whole.vocab_size = len(ids)


def hash_rows(model: PreTrainedModel, ids: Sequence[int]) -> WeightHashes:
    """The hashes of `certificate.hash_weights`, with the rows of `ids`, in this order, for those of the base's ids."""
    tables = find_tables(model)
    assert tables.head is not None
    of_tokens = {id(tables.embedding.weight), id(tables.head.weight), id(tables.head.bias)}
    rows, others = hashlib.sha256(), hashlib.sha256()
    first_names: dict[int, str] = {}
    weights = model.state_dict(keep_vars=True)
    for name, weight in weights.items():
        first_names.setdefault(id(weight), name)
    for name in sorted(first_names.values()):
        weight = weights[name]
        is_table = id(weight) in of_tokens
        held = (weight[list(ids)] if is_table else weight).detach().cpu()
        numbers = held.float() if held.dtype in (torch.float16, torch.bfloat16) else held
        digest = rows if is_table else others
        digest.update(f"{' '.join(map(str, [name, *numbers.shape]))}\n".encode())
        digest.update(numbers.reshape(-1).numpy().data)
    return WeightHashes(base_rows=rows.hexdigest(), other_weights=others.hexdigest())


def _selected(weight: Tensor, ids: Sequence[int]) -> nn.Parameter:
    return nn.Parameter(weight.detach()[list(ids)].clone(), requires_grad=weight.requires_grad)


def _id_settings(model: PreTrainedModel) -> Iterator[tuple[Any, str]]:
    """Where the model's settings name ids."""
    whole: Any = model
    places = [whole.config, whole.config.get_text_config(), whole.generation_config]
    for settings in {id(place): place for place in places if place is not None}.values():
        for name, value in list(vars(settings).items()):
            if name.endswith(_SETTINGS_OF_IDS) and value is not None:
                yield settings, name


def _flat(value: Any) -> list[int]:
    if isinstance(value, list | tuple):
        return [id_ for one in value for id_ in _flat(one)]
    return [value] if isinstance(value, int) else []


def _mapped(value: Any, new_ids: Mapping[int, int]) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_mapped(one, new_ids) for one in value)
    return new_ids.get(value, value)  # one that had no row stays what it is

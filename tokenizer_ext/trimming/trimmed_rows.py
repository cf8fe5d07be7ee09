"""The tables of a model with some of their rows, and the ids in its settings mapped to where these rows now are."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from tokenizer_ext.embeddings.tables import find_tables

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
        return [id_ for part in value for id_ in _flat(part)]
    return [value] if isinstance(value, int) else []


def _mapped(value: Any, new_ids: Mapping[int, int]) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_mapped(part, new_ids) for part in value)
    return new_ids.get(value, value)  # one that had no row stays what it is

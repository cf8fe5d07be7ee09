"""The numbers of a model's config against the shapes of its stored weights, before the model is built.

A number that is far too large would have the library build and fill with chance what no file holds, for hours.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from configs import InputError
from tokenizer_ext.foreign.json_in_folder import GET_ANEW
from tokenizer_ext.foreign.weight_headers import StoredTensor

Tensors = Mapping[str, StoredTensor]
# The last of each is what the models of this project call it.
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "layers")
ROWS = ("vocab_size", "vocabulary_size")
WIDTHS = ("hidden_size", "n_embd", "d_model", "n_embed", "width")
POSITIONS = ("n_positions", "max_position_embeddings", "n_ctx")
SIZES = re.compile(r"(num|n|max)_|_(size|dim|rank|heads|layers|experts|positions)$|^(d_model|dim|window)")
"""How the names of numbers begin or end that decide how large something is."""
NO_SIZES = re.compile(r"_token_id$|^(max_new_tokens|max_length|seed|.*position.*|n_ctx|.*window.*|chunk_size.*)$")
SMALL = 4096
"""A size up to this costs little, whatever it is the size of."""
MORE = 1 << 24
"""Numbers that a model may have beyond the stored ones, as a head that is not tied, or a mask."""
BLOCK = re.compile(r"(?:^|\.)(\d+)\.")
TABLE = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|word_embeddings?|token_embedding_table|embed_in|embeddings?|tok_embeddings|shared|w|tokens_embed)\.weight$"
)
POSITION_TABLE = re.compile(r"(?:^|\.)(?:wpe|embed_positions|position_embeddings?|positions_embed)\.weight$")
ELSEWHERE = re.compile(r"vision|visual|audio|image|speech")
MORE_BLOCKS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers")


def check_numbers(config: Mapping[str, Any], tensors: Tensors, where: Path) -> None:
    """Refuses a config that does not describe the stored weights; `where` is its file.

    Raises:
        InputError: there is another number of layers or rows, another width, or a size that nothing stored has.

    """
    text = _text_part(config)
    stored = {name: tensor for name, tensor in tensors.items() if not ELSEWHERE.search(name)} or tensors
    _check_layers(text, stored, where)
    _check_tables(text, stored, where)
    sides = {side for tensor in tensors.values() for side in tensor.shape}
    for field, width in _numbers(text, WIDTHS):
        if width not in sides:
            raise _differs(where, field, width, f"no side of that length, but such as {_some(sides)}")
    most = max([SMALL, len(tensors), 4 * max(sides, default=0)])
    for field, number in _sizes(config):
        if number > most:
            raise _differs(where, field, number, f"no side above {max(sides, default=0):,}")


def _check_tables(text: Mapping[str, Any], stored: Tensors, where: Path) -> None:
    """Holds the numbers of rows and positions to the tables that are stored."""
    tables = [stored[name].shape for name in stored if TABLE.search(name) and len(stored[name].shape) == 2]
    for field, rows in _numbers(text, ROWS):
        if tables and rows not in {table[0] for table in tables}:
            raise _differs(where, field, rows, f"an embedding of {tables[0][0]:,} rows")
    positions = [stored[name].shape[0] for name in stored if POSITION_TABLE.search(name) and stored[name].shape]
    for field, number in _numbers(text, POSITIONS):
        if positions and number > max(positions):
            raise _differs(where, field, number, f"a table of {max(positions):,} positions")


def check_size(folder: Path, tensors: Tensors) -> None:
    """Refuses a config by which the model is far larger than what is stored.

    What the library cannot build without memory is left to it: it says so itself.

    Raises:
        InputError: it is.

    """
    stored = sum(tensor.numbers for tensor in tensors.values())
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception:
        return
    expected = sum(tensor.numel() for tensor in chain(model.parameters(), model.buffers()))
    if expected > 1.5 * stored + MORE:
        raise InputError(
            f"{folder / 'config.json'}: describes a model of {expected:,} numbers, and {stored:,} are stored, expected "
            f"as many: {GET_ANEW}"
        )


def _check_layers(text: Mapping[str, Any], tensors: Tensors, where: Path) -> None:
    """Holds the number of layers to that of the numbered blocks among the names of the weights."""
    blocks: dict[str, int] = {}
    for name in tensors:
        if found := BLOCK.search(name):
            before = name[: found.start()]
            blocks[before] = max(blocks.get(before, 0), int(found[1]) + 1)
    more = sum(number for _, number in _numbers(text, MORE_BLOCKS))
    for field, layers in _numbers(text, LAYERS):
        numbers = set(blocks.values())
        if numbers and layers not in numbers and layers + more not in numbers:
            raise _differs(where, field, layers, f"those of {max(numbers):,} layers")


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of the part for text, where a model also sees or hears."""
    part = config.get("text_config")
    return part if isinstance(part, Mapping) else config


def _numbers(config: Mapping[str, Any], fields: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    for field in fields:
        value = config.get(field)
        if isinstance(value, int) and not isinstance(value, bool):
            yield field, value


def _sizes(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Every number that is a size, also in the configs of parts."""
    for field, value in config.items():
        if isinstance(value, Mapping):
            yield from _sizes(value)
        elif isinstance(value, int) and SIZES.search(field) and not NO_SIZES.search(field):
            yield field, value


def _some(sides: set[int]) -> str:
    return ", ".join(f"{side:,}" for side in sorted(sides)[:5])


def _differs(where: Path, field: str, number: int, found: str) -> InputError:
    return InputError(
        f"{where}: {field} is {number:,}, and the stored weights have {found}, expected a config that describes "
        f"them: {GET_ANEW}"
    )

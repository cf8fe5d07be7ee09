"""The new rows of an extended model as a delta, and the extended model again from its base and a delta."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from configs import InputError
from configs.file_hash import file_sha256
from configs.manifest import sealed_folder
from configs.whole_folder import check_new_folder
from tokenizer_ext.bpe.merge_learning import Merge, WholeToken
from tokenizer_ext.embeddings.saved_weights import check_tensors
from tokenizer_ext.embeddings.tables import Tables, find_tables, grow_rows
from tokenizer_ext.encoders.agreement import special_ids_of
from tokenizer_ext.encoders.new_characters import characters_from
from tokenizer_ext.extension.certificate import hash_tokenizer, hash_weights, read_certificate
from tokenizer_ext.extension.checks import certify
from tokenizer_ext.extension.delta_record import (
    DELTA,
    FORMAT,
    NEW_ROWS,
    CharacterRecord,
    Delta,
    DeltaBase,
    Token,
    check_rows_are_finite,
    read_delta,
)
from tokenizer_ext.extension.extension import Extended
from tokenizer_ext.extension.plan import Plan
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import (
    add_control_tokens,
    append_merges,
    append_whole,
    merges_from,
    next_token_id,
    token_bytes,
)
from tokenizer_ext.pages.json_records import write_record


def save_delta(model: nn.Module, tokenizer: PreTrainedTokenizerFast, first_new_id: int, folder: str | Path) -> Path:
    """Writes the delta of an extended model into a new folder.

    Args:
        model: The extended model, its new rows folded; its old rows and other weights tell what base it has.
        tokenizer: The extended tokenizer.
        first_new_id: Ids from here on are new.
        folder: A folder that holds nothing.

    Raises:
        InputError: there is no new id, one is neither merge nor control token, or a new row is not finite.

    """
    folder = Path(folder)
    check_new_folder(folder)
    tokens = _tokens_from(tokenizer, first_new_id)
    tables = find_tables(model)
    rows = _rows_of(tables, first_new_id, len(tokens))
    check_rows_are_finite(rows, type(model).__name__)
    base = DeltaBase(
        tokens=first_new_id,
        tokenizer=hash_tokenizer(tokenizer, first_new_id),
        weights=hash_weights(model, first_new_id),
    )
    with sealed_folder(folder, needed=sum(part.nbytes for part in rows.values())) as partial:
        save_file(rows, partial / NEW_ROWS)
        check_tensors(load_file(partial / NEW_ROWS), rows)
        delta = Delta(
            format=FORMAT,
            base=base,
            rows=tables.embedding.num_embeddings,
            tied=tables.tied,
            dtype=_name_of(rows["input_rows"].dtype),
            rows_sha256=file_sha256(partial / NEW_ROWS),
            tokens=tuple(tokens),
            reopened=True,
        )
        write_record(delta, partial / DELTA, indent=None)
    return folder


def apply_delta(base: str | Path | tuple[nn.Module, PreTrainedTokenizerFast], folder: str | Path) -> Extended:
    """The extended model that a delta was made of.

    Args:
        base: Folder or Hub name; or a model and its tokenizer: then the model is changed in place.
        folder: The delta.

    Raises:
        InputError: the delta is damaged, or the base is another; the model is unchanged then.

    """
    folder = Path(folder)
    delta, rows = read_delta(folder)
    tokenizer = base[1] if isinstance(base, tuple) else load_tokenizer(str(base))
    name = type(base[0]).__name__ if isinstance(base, tuple) else str(base)
    _check_same(name, "tokenizer", hash_tokenizer(tokenizer, next_token_id(tokenizer)), delta.base.tokenizer)
    extended_tokenizer = _with_tokens(tokenizer, delta, folder)
    model = base[0] if isinstance(base, tuple) else load_model(str(base), dtype="auto")
    weights_before = hash_weights(model, delta.base.tokens)
    _check_same(name, "rows", weights_before.base_rows, delta.base.weights.base_rows)
    _check_same(name, "other weights", weights_before.other_weights, delta.base.weights.other_weights)
    rows_before = find_tables(model).embedding.num_embeddings
    _grow(model, delta, rows, folder)
    plan = Plan(
        base=tokenizer,
        tokenizer=extended_tokenizer,
        characters=tuple(characters_from(extended_tokenizer, delta.base.tokens)),
        merges=tuple(merges_from(extended_tokenizer, delta.base.tokens)),
        control_tokens=tuple(token for token in delta.tokens if isinstance(token, str)),
    )
    return Extended(extended_tokenizer, model, certify(plan, model, weights_before, rows_before), plan)


def make_delta(extended: str, first_new_id: int | None, output_dir: str) -> Path:
    """Writes the delta of the model in a folder into a new one.

    Raises:
        InputError: nothing says what is new in it, or its old weights are not those of its base.

    """
    tokenizer = load_tokenizer(extended)
    certificate = read_certificate(extended)
    first = certificate.base_tokens if first_new_id is None and certificate else first_new_id
    if first is None:
        raise InputError(
            f"{extended}: holds no certificate.json, which says what is new: pass --first_new_id, the number of ids of "
            "its base"
        )
    model = load_model(extended, dtype="auto")
    if certificate and certificate.base_tokens == first and hash_weights(model, first) != certificate.weights_before:
        raise InputError(
            f"{extended}: its old weights are not those of its base, so a delta cannot hold what changed: share the "
            "whole folder"
        )
    return save_delta(model, tokenizer, first, output_dir)


def _tokens_from(tokenizer: PreTrainedTokenizerFast, first_new_id: int) -> list[Token]:
    tokens: dict[int, Token] = {id_: text for text, id_ in special_ids_of(tokenizer).items()}
    tokens |= {merge.token: (merge.left, merge.right) for merge in merges_from(tokenizer, first_new_id)}
    tokens |= {one.token: CharacterRecord(in_bytes=one.parts) for one in characters_from(tokenizer, first_new_id)}
    end = next_token_id(tokenizer)
    if not 0 < first_new_id < end:
        raise InputError(f"first_new_id: found {first_new_id}, expected an id from 1 to {end - 1}")
    for id_ in range(first_new_id, end):
        if id_ not in tokens:
            raise InputError(
                f"tokenizer: id {id_} ({tokenizer.convert_ids_to_tokens(id_)!r}) is neither a merge nor a control "
                "token, and a delta holds only those: add it by `tokenizer_ext.extend`"
            )
    return [tokens[id_] for id_ in range(first_new_id, end)]


def _rows_of(tables: Tables, first: int, new_tokens: int) -> dict[str, Tensor]:
    """What `grow_rows` takes, by the names of its arguments."""
    end, table = first + new_tokens, tables.embedding.weight.detach()
    rows = {"input_rows": table[first:end]}
    if tables.head is None:
        rows["output_rows"] = table[:first, first:end]
    elif not tables.tied:
        rows["output_rows"] = tables.head.weight.detach()[first:end]
    if tables.head is not None and tables.head.bias is not None:
        rows["output_biases"] = tables.head.bias.detach()[first:end]
    return {name: part.cpu().clone().contiguous() for name, part in rows.items()}


def _with_tokens(tokenizer: PreTrainedTokenizerFast, delta: Delta, folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer with the delta's tokens: characters, merges and control tokens, each in its turn."""
    try:
        for kind, group in groupby(delta.tokens, key=type):
            tokens: Any = list(group)
            if kind is str:
                tokenizer = add_control_tokens(tokenizer, tokens)
            elif kind is CharacterRecord:
                tokenizer = append_whole(tokenizer, _characters(tokenizer, tokens))
            else:
                tokenizer = append_merges(tokenizer, _merges(tokenizer, tokens))
    except InputError as error:
        raise InputError(f"{folder / DELTA}: {error}") from None
    return tokenizer


def _characters(tokenizer: PreTrainedTokenizerFast, records: Sequence[CharacterRecord]) -> list[WholeToken]:
    known = token_bytes(tokenizer)
    characters = []
    for token, record in enumerate(records, next_token_id(tokenizer)):
        content = b"".join([known.get(id_, b"") for id_ in record.in_bytes])
        if len(content) != len(record.in_bytes) or len(content.decode(errors="replace")) != 1:
            raise InputError(f"tokens: id {token} is made of ids {record.in_bytes}, expected the bytes of a character")
        characters.append(WholeToken(token, content, record.in_bytes, 0))
    return characters


def _merges(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[int, int]]) -> list[Merge]:
    known = token_bytes(tokenizer)
    merges = []
    for token, (left, right) in enumerate(pairs, next_token_id(tokenizer)):
        if left not in known or right not in known:
            raise InputError(f"tokens: id {token} is made of ids {left} and {right}, expected ids before it")
        known[token] = known[left] + known[right]
        merges.append(Merge(left, right, token, known[token], 0))
    return merges


def _grow(model: nn.Module, delta: Delta, rows: dict[str, Tensor], folder: Path) -> None:
    """Writes the new rows into the tables, or refuses them before anything is changed."""
    tables = find_tables(model)
    expected = (set(_rows_of(tables, 0, 0)), {delta.dtype}, len(delta.tokens), tables.tied)
    found = (set(rows), {_name_of(part.dtype) for part in rows.values()}, len(rows.get("input_rows", ())), delta.tied)
    if found != expected:
        raise InputError(
            f"{folder / NEW_ROWS}: found names, types, rows and whether the head is tied {found}, expected {expected}"
        )
    needed = max(delta.base.tokens + len(delta.tokens), tables.embedding.num_embeddings)
    if not needed <= delta.rows <= 2 * needed:
        raise InputError(f"{folder / DELTA}: rows is {delta.rows}, expected {needed} and padding at the most")
    # The multiple is the number itself: no smaller one of its multiples holds all rows.
    multiple = delta.rows if tables.head is not None else 1
    try:
        grow_rows(model, delta.base.tokens, multiple=multiple, **rows)
    except InputError as error:
        raise InputError(f"{folder / NEW_ROWS}: {error}") from None


def _check_same(base: str, part: str, found: str, expected: str) -> None:
    if found != expected:
        raise InputError(
            f"{base}: is not the base of this delta: sha256 of its {part} is {found}, expected {expected}; give the "
            "model that was extended"
        )


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

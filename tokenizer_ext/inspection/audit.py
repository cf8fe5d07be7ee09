"""What each token and row of a model is good for: kinds, duplicates, untrained rows, use in a corpus, neighbours."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.bpe.lone_surrogates import without_lone_surrogates
from tokenizer_ext.embeddings.tables import find_tables
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id, token_bytes
from tokenizer_ext.huggingface.text_readings import encoded, readings
from tokenizer_ext.inspection.audit_report import Audit, CorpusUse
from tokenizer_ext.inspection.token_kinds import TokenKind, sort_tokens
from tokenizer_ext.inspection.undertrained import find_undertrained, untrained_groups
from tokenizer_ext.pages.progress import shown, tracked

NEIGHBOURS = 5
ROWS_AT_ONCE = 250


@shown("looking at the tokens")
def audit_tokens(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    *,
    corpus: Iterable[str] | None = None,
    base_tokens: int | None = None,
) -> Audit:
    """Sorts the ids of a tokenizer by what text can do with them, and finds the rows of its model that look wrong.

    Args:
        model: A causal model, which is only read.
        tokenizer: Its tokenizer.
        corpus: Documents whose tokens are counted.
        base_tokens: The first id whose row is new; its neighbours and those of later ids are looked up.

    Raises:
        InputError: the tokenizer is no byte-level BPE, an id has no row, or `base_tokens` is no id of the tokenizer.

    """
    kinds, bytes_of_id = sort_tokens(tokenizer), token_bytes(tokenizer)
    tables = find_tables(model)
    rows = tables.embedding.num_embeddings
    check_rows(tokenizer, rows)
    if base_tokens is not None and not 0 < base_tokens <= max(kinds) + 1:
        raise InputError(f"base_tokens: found {base_tokens}, expected the first new id, from 1 to {max(kinds) + 1}")
    ids, matrices = _ids_by_kind(kinds), _matrices(model)
    return Audit(
        tokens=[bytes_of_id[id_].decode(errors="backslashreplace") if id_ in kinds else None for id_ in range(rows)],
        rows=rows,
        tied=tables.tied,
        ids_of_kind=ids,
        reasons={id_: found.reason for id_, found in kinds.items() if found.reason},
        padding=[id_ for id_ in range(rows) if id_ not in kinds],
        equal_bytes=_groups((token, id_) for id_, token in sorted(bytes_of_id.items())),
        equal_rows=_groups((_digest(matrices, id_), id_) for id_ in tracked(kinds, "comparing rows", "rows")),
        undertrained=find_undertrained(model, ids.get("ordinary", []), untrained_groups(bytes_of_id, rows)),
        corpus=None if corpus is None else count_tokens(tokenizer, corpus, rows),
        neighbours={} if base_tokens is None else nearest_rows(matrices[0], range(base_tokens, max(kinds) + 1)),
    )


def count_tokens(tokenizer: PreTrainedTokenizerFast, corpus: Iterable[str], rows: int) -> CorpusUse:
    """How often each id occurs in the documents, read as plain text."""
    documents = [without_lone_surrogates(text) for text in corpus]
    plain, _ = readings(tokenizer)
    read = tracked(encoded(plain, documents), "counting tokens", "documents", len(documents))
    counts = Counter(id_ for ids in read for id_ in ids)
    return CorpusUse(documents=len(documents), uses=[counts[id_] for id_ in range(rows)])


def check_rows(tokenizer: PreTrainedTokenizerFast, rows: int) -> None:
    """Refuses tables without a row for each id.

    Raises:
        InputError: they have fewer rows.

    """
    if next_token_id(tokenizer) > rows:
        raise InputError(
            f"model: its tables have {rows} rows and its tokenizer ids up to {next_token_id(tokenizer) - 1}, expected "
            "a row for each id: give the model and the tokenizer that belong together"
        )


@torch.no_grad()
def nearest_rows(table: Tensor, ids: Iterable[int], shown: int = NEIGHBOURS) -> dict[int, list[tuple[int, float]]]:
    """The rows with the largest cosine to the row of each of `ids`, itself left out: (R, D) -> id and cosine."""
    unit = F.normalize(table.float(), dim=1)  # (R, D)
    nearest = {}
    parts = torch.tensor(list(ids), dtype=torch.long).split(ROWS_AT_ONCE)
    for some in tracked(parts, "looking for neighbours", "parts"):
        cosines = unit[some] @ unit.T  # (N, R)
        cosines[torch.arange(len(some)), some] = -2.0
        best = cosines.topk(min(shown, len(unit) - 1), dim=1)
        for id_, values, others in zip(some.tolist(), best.values.tolist(), best.indices.tolist(), strict=True):
            nearest[id_] = [(other, round(value, 4)) for other, value in zip(others, values, strict=True)]
    return nearest


def _ids_by_kind(kinds: Mapping[int, TokenKind]) -> dict[str, list[int]]:
    ids: dict[str, list[int]] = defaultdict(list)
    for id_, found in kinds.items():
        ids[found.kind].append(id_)
    return dict(ids)


def _matrices(model: nn.Module) -> list[Tensor]:
    """The embedding, and the head where it is another."""
    tables = find_tables(model)
    weights = [tables.embedding.weight.detach()]
    return weights if tables.head is None or tables.tied else [*weights, tables.head.weight.detach()]


def _digest(matrices: Sequence[Tensor], id_: int) -> bytes:
    """What stands for a row, or both: rows themselves as keys would take as much memory as the tables."""
    digest = hashlib.sha256()
    for matrix in matrices:
        digest.update(matrix[id_].cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.digest()


def _groups(keyed: Iterator[tuple[Hashable, int]]) -> list[list[int]]:
    """The ids that share a key, where at least two do."""
    by_key: dict[Hashable, list[int]] = defaultdict(list)
    for key, id_ in keyed:
        by_key[key].append(id_)
    return [ids for ids in by_key.values() if len(ids) > 1]

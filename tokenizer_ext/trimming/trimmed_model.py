"""A model without the tokens that a corpus never uses, and what is proved of it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from configs.whole_folder import whole_folder
from tokenizer_ext.bpe.lone_surrogates import without_lone_surrogates
from tokenizer_ext.embeddings.tables import find_tables
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.extension.extension import check_new_folder
from tokenizer_ext.huggingface.text_readings import count_uses
from tokenizer_ext.inspection.audit import check_rows
from tokenizer_ext.inspection.token_kinds import reachable_ids
from tokenizer_ext.trimming.minimum_uses import check_uses
from tokenizer_ext.trimming.trim_certificate import TrimCertificate, compare_documents, count_moved
from tokenizer_ext.trimming.trimmed_rows import named_ids, select_rows
from tokenizer_ext.trimming.trimmed_tokenizer import choose_removed, ids_of_texts, trimmed

TRIM_RECORD = "trim.json"
"""Name of the file in the folder of a trimmed model."""


@dataclass(frozen=True)
class Trimmed:
    """A model with fewer tokens, and what is proved of it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    certificate: TrimCertificate
    new_ids: Mapping[int, int]
    """Where each old id went; those that are not in it are gone."""

    def save(self, folder: str | Path) -> Path:
        """Writes a plain Hugging Face folder, and `trim.json` beside the weights.

        Raises:
            InputError: the folder holds something.

        """
        folder = Path(folder)
        check_new_folder(folder)
        record = {"certificate": asdict(self.certificate), "new_ids": dict(self.new_ids)}
        with whole_folder(folder) as partial:
            self.model.save_pretrained(partial)
            self.tokenizer.save_pretrained(partial)
            (partial / TRIM_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return folder


def trim_vocabulary(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Iterable[str],
    *,
    minimum_uses: int = 1,
    keep_tokens: Sequence[str] = (),
) -> Trimmed:
    """The model, changed in place, and a new tokenizer, without the leaf tokens that the corpus never uses.

    Args:
        model: A causal model of transformers.
        tokenizer: Its tokenizer.
        corpus: Documents.
        minimum_uses: A token that the corpus uses less often goes.
        keep_tokens: Texts of tokens that stay, used or not.

    Raises:
        InputError: the tokenizer is no byte-level BPE, an id has no row, there is no document, or a text in
            `keep_tokens` is no token; the model is unchanged then.

    """
    check_uses(minimum_uses)
    documents = _documents(corpus)
    if not isinstance(model, PreTrainedModel):
        raise InputError(f"{type(model).__name__}: is no Hugging Face model: save it as one first")
    rows = find_tables(model).embedding.num_embeddings
    check_rows(tokenizer, rows)
    named = named_ids(model)
    keep = ids_of_texts(tokenizer, keep_tokens) | named
    removed = choose_removed(tokenizer, count_uses(tokenizer, documents), minimum_uses=minimum_uses, keep=keep)
    old_ids = set(tokenizer.get_vocab().values())
    kept = sorted((old_ids | named) - removed)
    new_ids = {id_: place for place, id_ in enumerate(kept)}
    new_tokenizer = trimmed(tokenizer, {id_: place for id_, place in new_ids.items() if id_ in old_ids})
    weights_before = hash_weights(model, kept)
    select_rows(model, kept)
    unequal, longer, with_removed = compare_documents(tokenizer, new_tokenizer, documents, new_ids)
    certificate = TrimCertificate(
        tokens_before=len(old_ids),
        tokens_after=len(old_ids - removed),
        rows_before=rows,
        rows_after=len(kept),
        unreachable_tokens=len(
            {new_ids[id_] for id_ in reachable_ids(tokenizer) - removed} - reachable_ids(new_tokenizer)
        ),
        moved_control_tokens=count_moved(tokenizer, new_tokenizer, new_ids),
        documents=len(documents),
        unequal_documents=unequal,
        documents_with_removed_tokens=with_removed,
        longer_documents=longer,
        weights_before=weights_before,
        weights_after=hash_weights(model, len(kept)),
    )
    return Trimmed(model, new_tokenizer, certificate, new_ids)


def _documents(corpus: Iterable[str]) -> list[str]:
    if isinstance(corpus, str):
        raise InputError(f"corpus: found one string ({corpus[:40]!r}), expected a list of documents: pass [text]")
    documents = [without_lone_surrogates(text) for text in corpus if text.strip()]
    if not documents:
        raise InputError("corpus: found no document, expected the text whose tokens stay")
    return documents

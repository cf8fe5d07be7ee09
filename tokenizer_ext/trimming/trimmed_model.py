"""A model without the tokens that a corpus never uses, and what is proved of it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from configs.manifest import sealed_folder
from configs.whole_folder import check_new_folder
from tokenizer_ext.embeddings.saved_weights import reopen
from tokenizer_ext.embeddings.tables import find_tables
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.extension.corpus_files import clean_documents
from tokenizer_ext.foreign.template_trial import save_tokenizer
from tokenizer_ext.huggingface.text_readings import count_uses
from tokenizer_ext.inspection.audit import check_rows
from tokenizer_ext.pages.progress import shown
from tokenizer_ext.trimming.minimum_uses import check_uses
from tokenizer_ext.trimming.trim_certificate import TrimCertificate, certify_trim
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

    @shown("writing the folder")
    def save(self, folder: str | Path) -> Path:
        """Writes a plain Hugging Face folder, and `trim.json` beside the weights.

        Raises:
            InputError: the folder holds something.

        """
        folder = Path(folder)
        check_new_folder(folder)
        with sealed_folder(folder, needed=self.model.get_memory_footprint()) as partial:
            self.model.save_pretrained(partial)
            save_tokenizer(self.tokenizer, partial)
            weights = hash_weights(reopen(partial, self.model, self.tokenizer), len(self.new_ids))
            certificate = replace(self.certificate, weights_after=weights, reopened=True)
            record = {"certificate": asdict(certificate), "new_ids": dict(self.new_ids)}
            (partial / TRIM_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return folder


@shown("trimming")
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
    rows = _checked_rows(model, tokenizer)
    named = named_ids(model)
    keep = ids_of_texts(tokenizer, keep_tokens) | named
    removed = choose_removed(tokenizer, count_uses(tokenizer, documents), minimum_uses=minimum_uses, keep=keep)
    token_ids = set(tokenizer.get_vocab().values())
    kept = sorted((token_ids | named) - removed)
    new_ids = {id_: place for place, id_ in enumerate(kept)}
    new_tokenizer = trimmed(tokenizer, {id_: place for id_, place in new_ids.items() if id_ in token_ids})
    weights_before = hash_weights(model, kept)
    select_rows(model, kept)
    weights = weights_before, hash_weights(model, len(kept))
    certificate = certify_trim(tokenizer, new_tokenizer, new_ids, documents, rows, weights)
    return Trimmed(model, new_tokenizer, certificate, new_ids)


def _checked_rows(model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> int:
    """The rows of the tables, if there is one for each id and transformers can save them."""
    if not isinstance(model, PreTrainedModel):
        raise InputError(f"{type(model).__name__}: is no Hugging Face model: save it as one first")
    rows = find_tables(model).embedding.num_embeddings
    check_rows(tokenizer, rows)
    return rows


def _documents(corpus: Iterable[str]) -> list[str]:
    documents = clean_documents(corpus, "corpus")
    if not documents:
        raise InputError("corpus: found no document, expected the text whose tokens stay")
    return documents

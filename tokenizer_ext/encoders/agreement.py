"""Whether other encoders give the ids of a Hugging Face tokenizer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.bpe.bpe import BytePairEncoding
from tokenizer_ext.bpe.tiktoken_files import to_tiktoken
from tokenizer_ext.encoders.spm_model import HOW_TO_GET_SENTENCEPIECE, model_file_of, processors, with_new_pieces
from tokenizer_ext.encoders.spm_twin import SentencePieceTwin
from tokenizer_ext.huggingface.byte_level_backend import is_spm, missing_bytes
from tokenizer_ext.huggingface.tiktoken_export import normalized, twin_of
from tokenizer_ext.pages.progress import shown, tracked

DOCUMENTS_PER_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class EncoderAgreement:
    """Whether other encoders give the ids of the Hugging Face tokenizer."""

    documents: int = 0
    """Documents encoded by all of them."""
    unequal_documents: int | None = None
    """Those in which another encoder gives other ids; None where there is no other encoder."""
    reason: str = ""
    """Why there is none."""
    model_file: str = ""
    """What became of `tokenizer.model`, where a SentencePiece base has one."""


def special_ids_of(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """The ids of special tokens."""
    return {str(added): id_ for id_, added in tokenizer.added_tokens_decoder.items() if added.special}


@shown("asking other encoders")
def compare_encoders(
    base: PreTrainedTokenizerFast, tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]
) -> EncoderAgreement:
    """Whether tiktoken's encoder and the readable twin give the tokenizer's ids, control tokens in the text included.

    To SentencePiece BPE, which has no form of tiktoken, the other encoder is SentencePiece's own rule, on documents in
    which it gives the base's ids.

    They get the text as its normaliser leaves it, for they have none. Texts with a byte that the vocabulary lacks are
    left out. An extension that has no such form although its base has one disagrees in every document.
    """
    texts = [*documents, "".join(special_ids_of(tokenizer))]
    if is_spm(tokenizer):
        return _compare_with_sentencepiece(base, tokenizer, texts)
    twin, reason = _twin_or_reason(tokenizer)
    if twin is None:
        lost = _twin_or_reason(base)[0] is not None
        documents_read = len(texts) if lost else 0
        return EncoderAgreement(documents=documents_read, unequal_documents=documents_read or None, reason=reason)
    others = (to_tiktoken(twin, "extended"), twin)  # as `export_tiktoken` makes it, without checking the ranks again
    missing = set(missing_bytes(tokenizer))
    texts = [text for text in texts if missing.isdisjoint(normalized(text, tokenizer).encode())]
    unequal = 0
    pairs = zip(texts, encode_in_batches(tokenizer.backend_tokenizer, texts), strict=True)
    for text, ids in tracked(pairs, "comparing ids", "texts", len(texts)):
        plain = normalized(text, tokenizer)
        unequal += any(list(other.encode(plain, allowed_special="all")) != ids for other in others)
    return EncoderAgreement(documents=len(texts), unequal_documents=unequal)


def _compare_with_sentencepiece(
    base: PreTrainedTokenizerFast, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> EncoderAgreement:
    """Whether SentencePiece's rule, and the package where there is a `tokenizer.model`, follow the new tokens."""
    others, model_file = [(SentencePieceTwin(base).encode, SentencePieceTwin(tokenizer).encode)], ""
    if (content := model_file_of(base)) is not None:
        made = processors([content, with_new_pieces(content, tokenizer)])
        others += [(made[0].encode, made[1].encode)] if made else []
        model_file = "checked with sentencepiece" if made else f"not checked: {HOW_TO_GET_SENTENCEPIECE}"
    both = (encode_in_batches(one.backend_tokenizer, texts) for one in (base, tokenizer))
    agreed = unequal = 0
    for text, old_ids, new_ids in zip(texts, *both, strict=True):
        found = [(after(text) == new_ids) for before, after in others if before(text) == old_ids]
        agreed, unequal = agreed + bool(found), unequal + (not all(found))
    reason = "" if agreed else "SentencePiece's rule gives the base's ids for no document"
    return EncoderAgreement(
        documents=agreed, unequal_documents=unequal if agreed else None, reason=reason, model_file=model_file
    )


def taken_apart(ids: Sequence[int], parts: Mapping[int, Sequence[int]]) -> list[int]:
    """The ids of the base: each new token replaced by those that it was made of.

    >>> taken_apart([7, 100, 8], {100: [1, 2]})
    [7, 1, 2, 8]
    """
    return [old for id_ in ids for old in parts.get(id_, (id_,))]


def encode_in_batches(encoder: Tokenizer, documents: Sequence[str]) -> Iterator[list[int]]:
    """The ids of each document, in batches, because an encoding takes many times the memory of its ids."""
    for start in range(0, len(documents), DOCUMENTS_PER_BATCH):
        batch = list(documents[start : start + DOCUMENTS_PER_BATCH])
        for encoding in encoder.encode_batch_fast(batch, add_special_tokens=False):
            yield encoding.ids


def evenly_spaced_documents(documents: Sequence[str], characters: int) -> list[str]:
    """Documents of about so many characters in all, evenly from the first to the last.

    >>> evenly_spaced_documents(["aaa", "bbb", "ccc", "ddd"], 6)
    ['aaa', 'ccc']
    """
    total = sum(map(len, documents))
    return [text[:characters] for text in documents[:: max(-(-total // characters), 1)]]


def _twin_or_reason(tokenizer: PreTrainedTokenizerFast) -> tuple[BytePairEncoding | None, str]:
    try:
        return twin_of(tokenizer), ""
    except InputError as error:
        return None, str(error)

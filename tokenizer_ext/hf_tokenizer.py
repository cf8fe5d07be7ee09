"""Ranks to a Hugging Face fast tokenizer, and new tokens in one that exists without moving an old id."""

from collections.abc import Mapping

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.bpe import visible
from tokenizer_ext.tiktoken_files import merges_from_ranks


def to_hf_tokenizer(
    ranks: Mapping[bytes, int], special_tokens: Mapping[str, int], *, end_of_text: str = "<|endoftext|>"
) -> PreTrainedTokenizerFast:
    """The fast tokenizer with these ids: byte-level BPE cut by GPT-2's pattern, as GPT-2's own.

    `end_of_text` is its bos, eos and unk. Special tokens also stand in the model's vocabulary: tokenizers numbers those
    that do not anew at every load.
    """
    if end_of_text not in special_tokens:
        raise InputError(
            f"end_of_text: found {end_of_text!r}, expected one of {', '.join(special_tokens) or 'the special tokens'}; "
            "give it an id in special_tokens"
        )
    vocabulary = {visible(token): rank for token, rank in ranks.items()} | dict(special_tokens)
    merges = [(visible(left), visible(right)) for left, right in merges_from_ranks(ranks)]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    by_id = sorted(special_tokens, key=special_tokens.__getitem__)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in by_id])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=end_of_text,
        eos_token=end_of_text,
        unk_token=end_of_text,
        extra_special_tokens=[token for token in by_id if token != end_of_text],
        clean_up_tokenization_spaces=False,
    )

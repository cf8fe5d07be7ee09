"""Small tokenizers of the families that are handled, each built as its published tokenizer.json is.

Only the ranks are learned here, from text that the test has; patterns, normalisers, post-processors, where the special
tokens stand and what tokenizer_config.json says are those of the published folders. Tiny models of the same
architectures stand in tiny_models.py.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.bpe.split_patterns import GPT2_SPLIT_PATTERN
from tokenizer_ext.bpe.tiktoken_files import merges_from_ranks
from tokenizer_ext.huggingface.hf_model import load_tokenizer

# https://huggingface.co/meta-llama/Meta-Llama-3-8B/blob/main/tokenizer.json
LLAMA_3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# https://huggingface.co/Qwen/Qwen2.5-0.5B/blob/main/tokenizer.json
QWEN_PATTERN = LLAMA_3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")

Ranks = Mapping[bytes, int]


def gpt2(ranks: Ranks) -> tuple[Tokenizer, dict[str, Any]]:
    """GPT-2: the text is cut by ByteLevel itself; the only special token comes last and stands in the vocabulary."""
    tokenizer = Tokenizer(models.BPE(vocab=_vocabulary(ranks) | {"<|endoftext|>": len(ranks)}, merges=_merges(ranks)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([_special("<|endoftext|>")])
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    return tokenizer, {**ends, "tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024}


def llama_3(ranks: Ranks) -> tuple[Tokenizer, dict[str, Any]]:
    """Llama 3: whole pieces first, every split of a token as a merge, 16 special tokens beside the vocabulary."""
    tokenizer = Tokenizer(models.BPE(vocab=_vocabulary(ranks), merges=_all_splits(ranks), ignore_merges=True))
    tokenizer.pre_tokenizer = _split_then_bytes(LLAMA_3_PATTERN)
    tokenizer.decoder = decoders.ByteLevel()
    named = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    reserved = [f"<|reserved_special_token_{n}|>" for n in range(11)]
    tokenizer.add_special_tokens([_special(token) for token in [*named, *reserved]])
    begin = ("<|begin_of_text|>", len(ranks))
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(f"{begin[0]} $A", f"{begin[0]} $A {begin[0]}:1 $B:1", [begin]),
        ]
    )
    ends = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    return tokenizer, {**ends, "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": True}


def qwen(ranks: Ranks) -> tuple[Tokenizer, dict[str, Any]]:
    """Qwen 2, 2.5 and 3: NFC, digits one by one, added tokens beside the vocabulary, some of them not special."""
    tokenizer = Tokenizer(models.BPE(vocab=_vocabulary(ranks), merges=_merges(ranks)))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _split_then_bytes(QWEN_PATTERN)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>"]
    tokenizer.add_tokens([_special(token) for token in special])
    tokenizer.add_tokens(
        [_word(token, normalized=False) for token in ("<tool_call>", "</tool_call>", "<|fim_middle|>")]
    )
    settings = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": None, "bos_token": None}
    return tokenizer, {
        **settings,
        "tokenizer_class": "Qwen2Tokenizer",
        "split_special_tokens": False,
        "errors": "replace",
    }


def gpt_neox(ranks: Ranks) -> tuple[Tokenizer, dict[str, Any]]:
    """GPT-NeoX, Pythia and OLMo 1: NFC, special tokens first, then ranks, then runs of spaces as added words.

    OLMo's last special token comes after those.
    """
    special = ["<|endoftext|>", "<|padding|>"]
    vocabulary = {token: id_ for id_, token in enumerate(special)} | _vocabulary(ranks, first_id=2)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=_merges(ranks)))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([_special(token) for token in special])
    tokenizer.add_tokens([_word(" " * width) for width in range(24, 1, -1)])
    tokenizer.add_tokens([_word("|||EMAIL_ADDRESS|||", normalized=False), _special("<|endofprompt|>")])
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    return tokenizer, {**ends, "pad_token": "<|padding|>", "tokenizer_class": "GPTNeoXTokenizer"}


def olmo_2(ranks: Ranks) -> tuple[Tokenizer, dict[str, Any]]:
    """OLMo 2: GPT-4's pattern, an added word and special tokens after the ranks, said to be of GPT-2's class."""
    tokenizer = Tokenizer(models.BPE(vocab=_vocabulary(ranks), merges=_merges(ranks)))
    tokenizer.pre_tokenizer = _split_then_bytes(LLAMA_3_PATTERN)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([_word("|||IP_ADDRESS|||", normalized=False)])
    tokenizer.add_tokens([_special(token) for token in ("<|fim_prefix|>", "<|endoftext|>", "<|pad|>")])
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    return tokenizer, {**ends, "pad_token": "<|pad|>", "tokenizer_class": "GPT2Tokenizer"}


def smollm(ranks: Ranks) -> tuple[Tokenizer, dict[str, Any]]:
    """SmolLM: digits one by one before ByteLevel cuts, and 17 special tokens at the ids 0 to 16."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>"]
    special += ["<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>"]
    special += ["<jupyter_code>", "<jupyter_output>", "<jupyter_script>", "<empty_output>"]
    vocabulary = {token: id_ for id_, token in enumerate(special)} | _vocabulary(ranks, first_id=len(special))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=_merges(ranks)))
    cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([_special(token) for token in special])
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    return tokenizer, {**ends, "tokenizer_class": "GPT2Tokenizer", "vocab_size": 49152}


Build = Callable[[Ranks], tuple[Tokenizer, dict[str, Any]]]
_BUILDERS: dict[str, tuple[Build, str, str]] = {  # with the pattern to learn ranks by, and the type of model
    "gpt2": (gpt2, GPT2_SPLIT_PATTERN, "gpt2"),
    "llama 3": (llama_3, LLAMA_3_PATTERN, "llama"),
    "qwen 2": (qwen, QWEN_PATTERN, "qwen2"),
    "qwen 3": (qwen, QWEN_PATTERN, "qwen3"),
    "gpt-neox": (gpt_neox, GPT2_SPLIT_PATTERN, "gpt_neox"),
    "olmo": (gpt_neox, GPT2_SPLIT_PATTERN, "olmo"),
    "olmo 2": (olmo_2, LLAMA_3_PATTERN, "olmo2"),
    "smollm": (smollm, r"\p{N}|" + GPT2_SPLIT_PATTERN.replace(r"| ?\p{N}+", ""), "llama"),
}
FAMILIES = tuple(_BUILDERS)
OFTEN = ("gpt2", "llama 3", "qwen 2")
EACH_FAMILY = [pytest.param(one, marks=[] if one in OFTEN else pytest.mark.long) for one in FAMILIES]
"""All of them, three in every run of the tests: GPT-2's bytes, whole pieces that are looked up, and a normaliser."""
"""The names to ask for."""


def write_family(family: str, folder: Path, texts: Iterable[str], ranks: int = 400) -> Path:
    """Write tokenizer.json, tokenizer_config.json and the config.json that tells the type of model, as published."""
    build, pattern, model_type = _BUILDERS[family]
    tokenizer, settings = build(train_bpe(texts, ranks, split_pattern=pattern).ranks)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        added["id"]: {name: value for name, value in added.items() if name != "id"}
        for added in json.loads(tokenizer.to_str())["added_tokens"]
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added, **settings}))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


def family_tokenizer(family: str, texts: Iterable[str], ranks: int = 400) -> PreTrainedTokenizerFast:
    """The tokenizer that we open in such a folder."""
    with TemporaryDirectory() as folder:
        return load_tokenizer(str(write_family(family, Path(folder), texts, ranks)))


def _vocabulary(ranks: Ranks, first_id: int = 0) -> dict[str, int]:
    return {visible(token): first_id + rank for token, rank in ranks.items()}


def _merges(ranks: Ranks) -> list[tuple[str, str]]:
    return [(visible(left), visible(right)) for left, right in merges_from_ranks(ranks)]


def _all_splits(ranks: Ranks) -> list[tuple[str, str]]:
    """Every way to join a token from two others, by rank: what transformers' TikTokenConverter writes."""
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        splits = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [(left, right) for left, right in splits if left in ranks and right in ranks]
        merges += sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    return [(visible(left), visible(right)) for left, right in merges]


def _split_then_bytes(pattern: str) -> pre_tokenizers.Sequence:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _special(token: str) -> AddedToken:
    return AddedToken(token, special=True, normalized=False)


def _word(token: str, *, normalized: bool = True) -> AddedToken:
    return AddedToken(token, special=False, normalized=normalized)

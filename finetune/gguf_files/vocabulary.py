"""The vocabulary of a byte-level tokenizer as a GGUF file holds it, by the name of the pre-tokenizer that cuts alike.

llama.cpp has its pre-tokenizers built in, each with a name (`src/llama-vocab.cpp`); a file names one of them. Where it
has none that cuts as the tokenizer does, ids would differ, so that is refused.
"""

from collections.abc import Mapping
from typing import Any

from gguf import GGUFWriter, TokenType
from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.huggingface.byte_level_backend import backend_json, check_byte_level
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id
from tokenizer_ext.huggingface.pattern_of_tokenizer import stages_in_order

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_IN_THREES, _ONE_BY_ONE = _WORDS % "{1,3}", _WORDS % ""
WHOLE_WORDS = ("llama-bpe",)
"""Pre-tokenizers with which llama.cpp takes a piece that is a token without merging it (`ignore_merges`)."""


def pre_tokenizer_name(tokenizer: PreTrainedTokenizerFast) -> str:
    """What llama.cpp calls the pre-tokenizer that cuts as this one does.

    Raises:
        InputError: the tokenizer is no byte-level BPE, or llama.cpp has no such pre-tokenizer.

    """
    check_byte_level(tokenizer)
    content = backend_json(tokenizer)
    name = _name_of(stages_in_order(content["pre_tokenizer"]))
    if name is None or bool(content["model"].get("ignore_merges")) != (name in WHOLE_WORDS):
        kinds = ", ".join(stage["type"] for stage in stages_in_order(content["pre_tokenizer"])) or "none"
        whole = " and ignore_merges" if content["model"].get("ignore_merges") else ""
        raise InputError(
            f"tokenizer: found a pre-tokenizer ({kinds}{whole}) that llama.cpp has no name for, expected that of "
            "GPT-2, SmolLM, Llama 3 or Qwen 2: its ids would be others there"
        )
    return name


def _name_of(stages: list[Mapping[str, Any]]) -> str | None:
    match stages:
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]:
            return "gpt-2"
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        ]:
            return "smollm"
        case [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ]:
            return {_IN_THREES: "llama-bpe", _ONE_BY_ONE: "qwen2"}.get(pattern)
    return None


def write_vocabulary(writer: GGUFWriter, tokenizer: PreTrainedTokenizerFast, rows: int, stops: list[int]) -> str:
    """Writes tokens, merges, special ids and chat template; the name of the pre-tokenizer.

    Args:
        writer: Of a file that holds no vocabulary yet.
        tokenizer: Byte-level BPE.
        rows: Rows of the embedding; those without an id are named, and unused.
        stops: Ids that end a reply, from the generation config.

    Raises:
        InputError: as `pre_tokenizer_name`, or an id has no row.

    """
    name = pre_tokenizer_name(tokenizer)
    if next_token_id(tokenizer) > rows:
        raise InputError(f"model: has {rows} rows, expected one for each id up to {next_token_id(tokenizer) - 1}")
    tokens, kinds = _tokens(tokenizer, rows)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in backend_json(tokenizer)["model"]["merges"]])
    _write_special(writer, tokenizer, stops)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)
    return name


def _tokens(tokenizer: PreTrainedTokenizerFast, rows: int) -> tuple[list[str], list[int]]:
    by_id = {id_: token for token, id_ in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, kinds = [], []
    for id_ in range(rows):
        if id_ in added:
            kinds.append(TokenType.CONTROL if added[id_].special else TokenType.USER_DEFINED)
            tokens.append(added[id_].content)
        else:
            kinds.append(TokenType.NORMAL if id_ in by_id else TokenType.UNUSED)
            tokens.append(by_id.get(id_, f"[PAD{id_}]"))
    return tokens, [int(kind) for kind in kinds]


def _write_special(writer: GGUFWriter, tokenizer: PreTrainedTokenizerFast, stops: list[int]) -> None:
    begins = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if tokenizer.eos_token_id is not None:
        writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    other = [id_ for id_ in stops if id_ != tokenizer.eos_token_id]
    if other:
        writer.add_eot_token_id(other[0])
    writer.add_add_bos_token(begins)
    writer.add_add_space_prefix(False)

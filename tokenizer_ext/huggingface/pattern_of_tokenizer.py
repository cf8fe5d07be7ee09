"""The one pattern that cuts text as the pre-tokenizer of a Hugging Face tokenizer does, where there is one."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.bpe.split_patterns import GPT2_SPLIT_PATTERN, SplitPattern
from tokenizer_ext.huggingface.byte_level_backend import backend_json

# What tokenizers' Digits takes for digits: those of Unicode 17, while its patterns know Unicode 16.
_DIGITS = r"\p{N}" + "\U00011de0-\U00011de9\U00016ff4-\U00016ff6"
_GPT2_WHITESPACE = r"|\s+(?!\S)|\s+"


def split_pattern_of(tokenizer: PreTrainedTokenizerFast) -> str:
    """The pattern whose matches are the pre-tokens of `tokenizer`.

    Raises:
        InputError: no one pattern is certain to cut alike; the message names the stage.

    """
    stages = stages_in_order(backend_json(tokenizer)["pre_tokenizer"])
    if not stages or stages[-1]["type"] != "ByteLevel":
        raise _no_pattern("no ByteLevel at its end")
    if stages[-1]["add_prefix_space"]:
        raise _no_pattern("a ByteLevel that puts a space before the text")
    cuts_itself = stages[-1].get("use_regex", True)
    match [*stages[:-1]]:
        case [] if cuts_itself:
            return GPT2_SPLIT_PATTERN
        case [{"type": "Digits", "individual_digits": one_by_one}] if cuts_itself:
            return _gpt2_between_digits("" if one_by_one else "+")
        case [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}] if (
            not cuts_itself
        ):
            if behavior == "Removed" and invert:  # only what matches is left, as with tiktoken
                return pattern
            if behavior == "Isolated":
                return _with_the_rest(pattern)
    raise _no_pattern(", ".join(stage["type"] for stage in stages))


def with_runs_of_spaces(split_pattern: str, longest: int) -> str:
    """The pattern that also takes 2 to `longest` spaces for a piece, cut out before all else.

    Raises:
        InputError: the pattern is not GPT-2's, where that is not certain to cut alike.

    """
    if split_pattern != GPT2_SPLIT_PATTERN:
        raise _no_pattern("a pattern other than GPT-2's beside added runs of spaces")
    # Other whitespace ends where a run begins, as text ends there.
    blank = r"(?:(?!  )\s)"
    whitespace = rf"|{blank}+(?!\S)|{blank}+"
    return rf" {{2,{longest}}}|" + split_pattern.replace(_GPT2_WHITESPACE, whitespace)


def _gpt2_between_digits(repeated: str) -> str:
    """GPT-2's pattern on the text between digits: to it, text ends where a digit stands."""
    between = GPT2_SPLIT_PATTERN.replace(r"| ?\p{N}+", "").replace(r"\p{N}", _DIGITS)
    return rf"[{_DIGITS}]{repeated}|" + between.replace(r"(?!\S)", rf"(?![^\s{_DIGITS}])")


def _with_the_rest(split_pattern: str) -> str:
    """The pattern that also matches what lies between its matches, which `Isolated` keeps and tiktoken drops."""
    return split_pattern if _matches_all(split_pattern) else rf"{split_pattern}|(?:(?!{split_pattern})[\s\S])+"


@cache
def _matches_all(split_pattern: str) -> bool:
    """Whether every character alone is a match."""
    findall = SplitPattern(split_pattern).findall
    characters = [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xF0001), 0x40000]  # elsewhere all are alike
    return all([findall(character) == [character] for character in map(chr, characters)])


def _no_pattern(found: str) -> InputError:
    return InputError(
        f"tokenizer: found a pre-tokenizer of {found}, expected ByteLevel alone, after Digits, or after one Split by a "
        "pattern, which is one pattern for tiktoken; use tokenizer.json"
    )


def stages_in_order(stage: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The stages of a pre-tokenizer, in their order."""
    if stage is None or stage["type"] != "Sequence":
        return [stage] if stage else []
    return [inner for part in stage["pretokenizers"] for inner in stages_in_order(part)]

import inspect
import random
import re

import pytest
import tiktoken_ext.openai_public  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from configs import InputError
from tests.tokenizer_ext.families import LLAMA_3_PATTERN, QWEN_PATTERN
from tokenizer_ext.bpe.split_patterns import GPT2_SPLIT_PATTERN, GPT4_SPLIT_PATTERN, SplitPattern

# Planes 4 to 13 hold nothing yet, 15 and 16 are for private use.
EVERY_CHARACTER = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xF0010)]))
ANY_TEXT = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.sampled_from([" ", "  ", "\n", "\r\n", "\t ", "\u00a0", "'ll", "'S", "'ſ", "1234", "½", "!\n", "e\u0301"]),
    )
).map("".join)


@pytest.mark.parametrize("kind", [r"\p{L}", r"\p{N}", r"\p{M}", r"[^\s\p{L}\p{N}]"])
def test_every_character_is_of_the_kind_that_the_tokenizers_library_knows(kind):
    cuts = pre_tokenizers.Split(Regex(f"{kind}+"), "removed").pre_tokenize_str(EVERY_CHARACTER)
    theirs = [piece for piece, _ in cuts]
    ours = [piece for piece in SplitPattern(f"(?:(?!{kind})[\\s\\S])+").findall(EVERY_CHARACTER)]
    assert ours == theirs


def test_the_pattern_of_gpt4_is_tiktokens():
    source = inspect.getsource(tiktoken_ext.openai_public.cl100k_base)
    assert re.findall(r'"pat_str": r"""(.*)"""', source) == [GPT4_SPLIT_PATTERN]


def test_the_pattern_of_gpt2_cuts_as_tiktokens_does():
    theirs = SplitPattern(tiktoken_ext.openai_public.r50k_pat_str)
    characters = random.Random(0).choices(EVERY_CHARACTER[:0x3000] + " \n'" * 4000 + "stdml" * 1000, k=50_000)
    text = "".join(characters)
    assert SplitPattern(GPT2_SPLIT_PATTERN).findall(text) == theirs.findall(text)


@settings(max_examples=100, deadline=None)
@given(text=ANY_TEXT)
@pytest.mark.parametrize("pattern", [GPT2_SPLIT_PATTERN, LLAMA_3_PATTERN, QWEN_PATTERN])
def test_a_pattern_cuts_any_text_as_the_tokenizers_library_does(pattern, text):
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    assert SplitPattern(pattern).findall(text) == [piece for piece, _ in split.pre_tokenize_str(text)]


def test_without_a_pattern_nothing_is_cut():
    text = "two words\n\nand\u2028lines"
    assert SplitPattern(None).findall(text) == [text]
    assert SplitPattern(None).findall("") == []


@pytest.mark.parametrize("pattern", ["(a|b)+", "a("])
def test_a_pattern_that_cannot_cut_text_is_refused(pattern):
    with pytest.raises(InputError, match="split_pattern: found"):
        SplitPattern(pattern)

"""The form: what the page can send is read, whatever else JSON can say is refused in one line."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.form import FORMATS, MAXIMUM_CHARACTERS, MAXIMUM_SEED, MAXIMUM_TOKENS, Asked, read_form
from configs import InputError
from finetune.replies.prompts import PLAIN_PROMPTS
from scratch_models.decoding.sampling_settings import Sampling

NAMES = ("prompt", "base format", "tuned format", "temperature", "top-k", "top-p", "seed", "maximum tokens")
GOOD = ("1+1?", "question", "chat", 0.8, 40, 0.9, 7, 96)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["question", "raw", 1, 0.5]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


def _with(name: str, value: object) -> list[object]:
    return [value if field == name else good for field, good in zip(NAMES, GOOD, strict=True)]


def test_what_the_page_sends_is_read():
    sampling = Sampling(temperature=0.8, top_k=40, top_p=0.9, seed=7)
    assert read_form(*GOOD) == Asked(
        prompt="1+1?", base_format="question", tuned_format="chat", sampling=sampling, maximum_tokens=96
    )


def test_the_page_offers_the_chat_format_each_plain_prompt_and_raw_completion():
    assert set(FORMATS) == {"chat", *PLAIN_PROMPTS, "raw"}


@pytest.mark.parametrize("name", ["temperature", "top-k", "top-p", "seed", "maximum tokens"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 10**12, True, None, "1", [1], {"a": 1}])
def test_a_number_of_the_wrong_type_or_range_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=rf"^{name}: found .*, expected a (whole )?number from "):
        read_form(*_with(name, value))


@pytest.mark.parametrize(
    ("name", "value"),
    [("top-p", 0), ("maximum tokens", 0), ("maximum tokens", MAXIMUM_TOKENS + 1), ("seed", 0.5), ("top-k", 1.5)],
)
def test_values_that_mean_nothing_are_refused(name, value):
    with pytest.raises(InputError, match=name.replace("top-p", "top.p")):
        read_form(*_with(name, value))


def test_the_ends_of_each_range_are_taken():
    read_form("a" * MAXIMUM_CHARACTERS, "raw", "raw", 0, 0, 1, 0, 1)
    read_form("a", "bare", "chat", 2, 200, 0.05, MAXIMUM_SEED, MAXIMUM_TOKENS)


@pytest.mark.parametrize("prompt", ["", " \n\t", None, 7, ["a"]])
def test_an_empty_prompt_is_refused(prompt):
    with pytest.raises(InputError, match="prompt: is empty"):
        read_form(*_with("prompt", prompt))


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers():
    with pytest.raises(InputError, match="found 20,001 characters, expected at most 20,000"):
        read_form(*_with("prompt", "a" * 20_001))


def test_half_a_character_is_refused():
    with pytest.raises(InputError, match="half of a character"):
        read_form(*_with("prompt", "a\ud83d"))


@pytest.mark.parametrize("which", ["base format", "tuned format"])
@pytest.mark.parametrize("value", ["own", None, ["question"], {}])
def test_a_format_that_does_not_exist_is_refused_with_those_that_do(which, value):
    with pytest.raises(InputError, match=f"{which}: found .*, expected one of chat, question, dialogue, bare, raw"):
        read_form(*_with(which, value))


@given(st.tuples(*[JSON | st.just(good) for good in GOOD]))
@example(("a", "raw", "chat", 1e-300, 0, 1e-300, 0.0, 1.0))
@example(
    (
        "a",
        {"\x1f" * 9: {"\U00018d09" * 4: 1e16, "0\x1f\U00018d09": "00\x1f\U00018cd6\U0001da8c"}, "000": None},
        *GOOD[2:],
    )
)
def test_whatever_is_sent_is_read_in_range_or_refused(values):
    try:
        asked = read_form(*values)
    except InputError as error:
        assert len(str(error)) < 200
        return
    assert asked.prompt.strip()
    assert 1 <= asked.maximum_tokens <= MAXIMUM_TOKENS

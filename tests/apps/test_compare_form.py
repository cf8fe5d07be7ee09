"""The form of the Compare tab: what the page can send is read, whatever else JSON can say is refused in one line."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.comparing.compare_form import MOST_SEED, MOST_TOKENS, read_form
from apps.showing.field_values import MOST_CHARACTERS
from apps.showing.studio_models import FORMATS, plain_prompt
from configs import InputError
from finetune.conversations.messages import Message
from finetune.replies.prompts import PLAIN_PROMPTS
from scratch_models.decoding.sampling_settings import Sampling

MODELS = ["base", "tuned"]
SHARED = ["prompt", "dialogue", "sides", "system", "temperature", "top-k", "top-p", "seed", "most tokens", "apart"]
GOOD = ["1+1?", "", 2, "", 0.8, 40, 0.9, 7, 96, False]
SIDES = ["base", "question", 0, 1, 0, "tuned", "chat", 0.5, 1, 9, *["base", "auto", 0, 1, 0] * 2]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["question", "raw", 1, 0.5]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


def _with(name: str, value: object) -> list[object]:
    return [value if field == name else good for field, good in zip(SHARED, GOOD, strict=True)] + SIDES


def test_what_the_page_sends_is_read_and_sides_are_sampled_alike_unless_they_are_set_apart():
    asked, apart = (read_form(MODELS, _with("apart", value)) for value in (False, True))
    shared = Sampling(temperature=0.8, top_k=40, top_p=0.9, seed=7)
    assert [(one.model, one.prompt_format, one.sampling) for one in asked.sides] == [
        ("base", "question", shared),
        ("tuned", "chat", shared),
    ]
    assert apart.sides[1].sampling == Sampling(temperature=0.5, top_k=40, top_p=1, seed=9)
    assert (asked.prompt, asked.reply_tokens, asked.dialogue.turns) == ("1+1?", 96, ())
    assert [one.sampling.seed for one in asked.with_seeds_moved(1).sides] == [8, 8]


def test_the_page_offers_the_chat_format_each_plain_prompt_and_raw_completion():
    assert set(FORMATS) == {"auto", "chat", *PLAIN_PROMPTS, "raw"}
    texts = {name: plain_prompt(name).text([Message("user", "1+1?")]) for name in [*PLAIN_PROMPTS, "raw"]}
    assert texts == {
        "question": "Question: 1+1?\nAnswer:",
        "dialogue": "User: 1+1?\nAssistant:",
        "bare": "1+1?\n\n",
        "raw": "1+1?",
    }


@pytest.mark.parametrize("name", ["sides", "temperature", "top-k", "top-p", "seed", "most tokens"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 10**12, True, None, "1", [1], {"a": 1}])
def test_a_number_of_the_wrong_type_or_range_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=rf"^{name}: found .*, expected a (whole )?number from "):
        read_form(MODELS, _with(name, value))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("top-p", 0, "top-p: found 0"),
        ("most tokens", MOST_TOKENS + 1, "most tokens: found 1025"),
        ("seed", 0.5, "seed: found 0.5"),
        ("prompt", " \n\t", "prompt: is empty"),
        ("prompt", None, "prompt: found None, expected text"),
        ("prompt", "a" * 20_001, "found 20,001 characters, expected at most 20,000"),
        ("prompt", "a\ud83d", "half of a character"),
        ("system", 5, "system: found 5, expected text"),
        ("apart", 1, "sampling of each side: found 1, expected true or false"),
        ("dialogue", "{", "dialogue: is none"),
        ("dialogue", '{"sides": ["a"], "turns": [{"prompt": 1}]}', "dialogue: is none"),
        ("dialogue", "[" * 100_000, "dialogue: is none"),
    ],
)
def test_values_that_mean_nothing_are_refused(name, value, said):
    with pytest.raises(InputError) as error:
        read_form(MODELS, _with(name, value))
    assert said in str(error.value)


@pytest.mark.parametrize("value", ["own", None, ["question"], {}])
def test_a_model_or_format_that_does_not_exist_is_refused_with_those_that_do(value):
    with pytest.raises(InputError, match=r"side A: format: found .*, expected one of auto, chat, question"):
        read_form(MODELS, [*GOOD, "base", value, *SIDES[2:]])
    with pytest.raises(InputError, match=r"side A: found .*, expected one of base, tuned"):
        read_form(MODELS, [*GOOD, value, *SIDES[1:]])


def test_the_ends_of_each_range_are_taken():
    read_form(MODELS, ["a" * MOST_CHARACTERS, "", 4, "", 0, 0, 1, 0, 1, True, *SIDES])
    read_form(MODELS, ["a", "", 1, "", 2, 200, 0.05, MOST_SEED, MOST_TOKENS, True, *SIDES])


@given(st.tuples(*[JSON | st.just(good) for good in [*GOOD, *SIDES]]))
@example(("a", "", 2.0, "", 1e-300, 0, 1.0, 0.0, 1.0, False, *SIDES))
@example(
    ("a", {"\x1f" * 9: {"\U00018d09" * 4: 1e16, "0\x1f\U00018d09": "00\x1f\U00018cd6\U0001da8c"}}, *GOOD[2:], *SIDES)
)
def test_whatever_is_sent_is_read_in_range_or_refused(values):
    try:
        asked = read_form(MODELS, values)
    except InputError as error:
        assert len(str(error)) < 400
        return
    assert asked.prompt.strip()
    assert 1 <= asked.reply_tokens <= MOST_TOKENS

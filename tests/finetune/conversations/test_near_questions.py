"""A question is near a held-out one as the definition says, word by word; templates make nothing near."""

import json
import random
import re
import tracemalloc
from collections import Counter

import pytest

from finetune.conversations.near_questions import NearQuestions
from tests.house.repository import ROOT

GSM8K = ROOT.parent / "shared" / "data" / "gsm8k_train.jsonl"
LONG = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May, and after that she "
    "gave a dozen of those that were left over to her little sister. How many clips did Natalia sell altogether?"
)


def trigrams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + 3]) for start in range(len(words) - 2)}


def near_by_definition(held_out: list[str], text: str) -> bool:
    """Every pair, with trigrams as tuples of words: nothing hashed, nothing indexed."""
    sets = [trigrams(one) for one in held_out]
    having = Counter(trigram for one in sets for trigram in one)
    boilerplate = {trigram for trigram, number in having.items() if number >= 3 and number > 0.02 * len(sets)}
    own = trigrams(text) - boilerplate
    kept = [one - boilerplate for one in sets]
    return any(own and one and len(own & one) / len(own | one) >= 0.7 for one in kept) or any(
        re.findall(r"\w+", one.lower()) == re.findall(r"\w+", text.lower()) for one in held_out
    )


def changed(text: str, words: int, draws: random.Random) -> str:
    """The text with so many of its words put for others."""
    parts = text.split()
    for place in draws.sample(range(len(parts)), min(words, len(parts))):
        parts[place] = f"other{draws.randrange(1000)}"
    return " ".join(parts)


@pytest.fixture(scope="module")
def gsm8k() -> list[str]:
    if not GSM8K.exists():
        pytest.skip("gsm8k_train.jsonl is not in the folder shared/data beside the repository")
    return [json.loads(line)["question"] for line in GSM8K.read_text(encoding="utf-8").splitlines()]


@pytest.mark.long
def test_near_is_what_the_definition_says_of_every_pair_of_real_questions(gsm8k):
    draws = random.Random(0)
    held_out = draws.sample(sorted(set(gsm8k)), 100)
    asked = [changed(draws.choice(held_out), words, draws) for words in range(9) for _ in range(20)]
    asked += [*draws.sample(gsm8k, 50), *(text[: len(text) // 2] for text in held_out[:20]), "", "?", "Why?"]
    index = NearQuestions(held_out)
    expected = [near_by_definition(held_out, text) for text in asked]
    assert [index.is_near(text) for text in asked] == expected and 50 < sum(expected) < len(asked) - 50


def test_near_is_what_the_definition_says_where_trigrams_are_boilerplate():
    draws = random.Random(1)
    words = [f"w{number}" for number in range(4)]
    held_out = list(dict.fromkeys(" ".join(draws.choices(words, k=draws.randrange(1, 9))) for _ in range(60)))
    asked = [" ".join(draws.choices(words, k=draws.randrange(1, 9))) for _ in range(500)]
    expected = [near_by_definition(held_out, text) for text in asked]
    index = NearQuestions(held_out)
    assert [index.is_near(text) for text in asked] == expected and 20 < sum(expected) < 480


def test_a_question_cut_to_seven_of_its_ten_trigrams_is_near_and_one_cut_to_six_is_not():
    questions = [[f"w{12 * number + place}" for place in range(12)] for number in range(300)]
    index = NearQuestions(map(" ".join, questions))
    for words in questions:
        assert all(index.is_near(" ".join(words[start : start + 9])) for start in range(4))
        assert not any(index.is_near(" ".join(words[start : start + 8])) for start in range(5))


def test_a_long_question_with_one_number_changed_is_near_and_a_short_one_is_not():
    index = NearQuestions([LONG, "Write a poem about 3 cats"])
    assert index.is_near(LONG.replace("48", "52")) and index.is_near(LONG.upper().replace(",", " -"))
    assert not index.is_near("Write a poem about 4 cats") and not index.is_near(LONG[: len(LONG) // 2])


@pytest.mark.parametrize(
    "template",
    [
        "Classify the sentiment of this review as positive or negative, look at the whole of it and at nothing else, "
        "be as strict as a judge, never say that it is neutral or mixed, and answer with that one word: {}",
        "{}\n\nTranslate the sentence above into German, keep its tone, do not add or leave out anything, leave names "
        "as they are, use the polite form where a person is spoken to, and write nothing but the translation.",
    ],
)
@pytest.mark.parametrize(("held_out", "sample"), [(100, False), (2, True)])
def test_a_template_makes_no_two_questions_near(template, held_out, sample):
    draws = random.Random(2)
    texts = [template.format(" ".join(f"w{draws.randrange(50)}" for _ in range(5))) for _ in range(2000)]
    others = texts[held_out:]
    index = NearQuestions(texts[:held_out], sample=others if sample else ())
    assert NearQuestions(texts[:1]).is_near(others[0]), "without knowing the template they are near"
    assert sum(map(index.is_near, others)) == 0 and all(map(index.is_near, texts[:held_out]))


def test_questions_of_boilerplate_or_of_two_words_are_near_their_equals_alone():
    index = NearQuestions(["Go on please", "go on please now", "Go on please then", "Tell me", "🙂", "继续"])
    assert (
        index.is_near("go on, PLEASE!") and index.is_near("tell me.") and index.is_near("🙂") and index.is_near("继续!")
    )
    assert not any(map(index.is_near, ["Tell you", "🙁", "go on", "Please go on please", "", "!"]))


def test_a_question_that_stands_there_often_is_not_boilerplate():
    assert NearQuestions([LONG] * 10 + ["Why?"]).is_near(LONG.replace("48", "52"))


def test_two_thousand_long_questions_would_take_60_mb_at_most():
    draws = random.Random(3)
    texts = [" ".join(f"w{draws.randrange(30_000)}" for _ in range(300)) for _ in range(400)]
    tracemalloc.start()
    index = NearQuestions(texts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert index.is_near(texts[0]) and 5 * peak <= 60e6

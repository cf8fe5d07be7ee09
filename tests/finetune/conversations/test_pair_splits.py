"""Pairs to learn from and pairs held out have no prompt in common; embedded ones oppose a wrong answer to the right."""

import pytest

from configs import InputError
from finetune.conversations.embedded_pairs import answers_of_signatures, oppose
from finetune.conversations.formats import Conversation, Message
from finetune.conversations.pair_splits import NEARLY_HELD_OUT, split_pairs
from finetune.conversations.pairs import to_pair
from scratch_models.corpus.documentation import Document
from tests.finetune.pair_records import pair_records


def _pairs(number):
    return [to_pair(record, f"pairs.jsonl:{line}") for line, record in enumerate(pair_records(number), 1)]


def test_all_pairs_of_a_prompt_lie_on_one_side_and_the_order_of_the_lines_has_no_effect():
    several = [*_pairs(100), *_pairs(100)]
    splits = split_pairs("x", several)
    training, held_out = ({pair.prompt for pair in part} for part in (splits.training, splits.held_out))
    assert len(held_out) == 5 and len(training) == 95 and not training & held_out
    assert {pair.prompt for pair in split_pairs("x", several[::-1]).held_out} == held_out


def test_pairs_of_two_equal_replies_are_left_out_and_counted():
    equal = to_pair({"prompt": "a", "chosen": "b", "rejected": "b"}, "x:1")
    splits = split_pairs("x", [*_pairs(100), equal, equal])
    assert splits.left_out == {"pairs whose two replies are the same": 2, NEARLY_HELD_OUT: 0}
    assert len(splits.training) + len(splits.held_out) == 100


STORY = (
    "Tom has {} hens, each lays an egg a day, he sells a dozen for 3 dollars. What does he earn in the weeks of May?"
)


def test_pairs_whose_prompt_is_nearly_one_that_is_held_out_are_left_out_and_counted():
    versions = [to_pair({"prompt": STORY.format(hens), "chosen": "1", "rejected": "2"}, "x:1") for hens in range(40)]
    splits = split_pairs("x", [*_pairs(400), *versions])
    held_out, training = ([pair.prompt[0].content for pair in part] for part in (splits.held_out, splits.training))
    assert any(prompt.startswith("Tom has") for prompt in held_out)
    assert not any(prompt.startswith("Tom has") for prompt in training)
    assert splits.left_out[NEARLY_HELD_OUT] == 440 - len(training) - len(held_out)
    assert len(training) >= 375  # questions of another thing or number are no others' versions


def test_too_few_prompts_are_refused_whatever_the_number_of_pairs():
    with pytest.raises(InputError, match="1 different prompts with two different replies are too few"):
        split_pairs("x", _pairs(1) * 50)


def test_the_hash_of_the_pairs_sees_what_is_rejected():
    changed = [to_pair({**record, "rejected": "no"}, "x:1") for record in pair_records(100)]
    assert split_pairs("x", _pairs(100)).sha256() != split_pairs("x", changed).sha256()


def _asked(question, answer, name, checkable=True):
    messages = (Message("user", question), Message("assistant", answer))
    return Conversation(messages, f"{name} ({'signature' if checkable else 'purpose'})", answer if checkable else None)


def test_the_wrong_answer_is_another_fact_of_the_signature_where_there_is_one():
    document = Document("m.f", "m", "function", "(x: int, y=2.5)", "")
    asked = _asked("f(x: int, y=2.5)\n\nWhat is the default of y?", "2.5", "m.f")
    assert [pair.rejected[0].content for pair in oppose([asked], answers_of_signatures([document]))] == ["int"]


def test_else_it_is_the_answer_to_another_question_of_the_kind_and_never_the_right_one():
    defaults = [
        _asked(f"f\n\nWhat is the default of {name}?", answer, name) for name, answer in zip("abc", "112", strict=True)
    ]
    purposes = [_asked(f"f\n\nWhat does {name} do?", f"It is {name}.", name, checkable=False) for name in "de"]
    pairs = {pair.source: pair for pair in oppose([*defaults, *purposes], {})}
    assert len(pairs) == 5
    assert [pairs[f"{name} (signature)"].rejected[0].content for name in "abc"] == ["2", "2", "1"]
    assert pairs["d (purpose)"].rejected[0].content == "It is e."


def test_a_question_without_any_wrong_answer_makes_no_pair():
    assert oppose([_asked("f\n\nWhat is the default of a?", "1", "a")], {}) == []

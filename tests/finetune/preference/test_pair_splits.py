"""Pairs to learn from and pairs held out have no prompt in common; embedded ones oppose a wrong answer to the right."""

import pytest

from configs import InputError
from finetune.conversations.formats import Conversation, Message
from finetune.conversations.pairs import to_pair
from finetune.preference.embedded_pairs import answers_of_signatures, oppose
from finetune.preference.pair_splits import (
    NEARLY_HELD_OUT,
    choose_usable,
    read_preference_splits,
    split_given,
    split_pairs,
)
from scratch_models.corpus.documentation import Document
from tests.finetune.pair_records import pair_records, write_pairs


def _pairs(number):
    return [to_pair(record, f"pairs.jsonl:{line}") for line, record in enumerate(pair_records(number), 1)]


def _split(pairs):
    return split_pairs("x", choose_usable(pairs))


def test_all_pairs_of_a_prompt_lie_on_one_side_and_the_order_of_the_lines_has_no_effect():
    several = [*_pairs(100), *_pairs(100)]
    splits = _split(several)
    training, held_out = ({pair.prompt for pair in part} for part in (splits.training, splits.held_out))
    assert len(held_out) == 5 and len(training) == 95 and not training & held_out
    assert {pair.prompt for pair in _split(several[::-1]).held_out} == held_out


def test_pairs_of_two_equal_replies_are_left_out_and_counted():
    equal = to_pair({"prompt": "a", "chosen": "b", "rejected": "b"}, "x:1")
    splits = _split([*_pairs(100), equal, equal])
    assert splits.left_out == {"pairs whose two replies are the same (first: x:1)": 2, NEARLY_HELD_OUT: 0}
    assert len(splits.training) + len(splits.held_out) == 100


def _pair(line, **beside):
    return to_pair({"prompt": f"Question {line}", "chosen": "b", "rejected": "c", **beside}, f"y:{line}")


def test_pairs_that_do_not_say_what_is_preferred_are_left_out_each_kind_counted_with_its_first_place():
    useless = [
        _pair(1, score_chosen=3, score_rejected=3.0),
        _pair(2, weight=0),
        _pair(3, chosen_rating=1, rejected_rating=4),
        _pair(4, score_chosen=2, score_rejected=2),
        _pair(5, rejected="b", score_chosen=2, score_rejected=2),
    ]
    splits = _split([*_pairs(100), *useless])
    assert splits.left_out == {
        "pairs whose two replies are the same (first: y:5)": 1,
        "pairs of weight 0 (first: y:2)": 1,
        "pairs whose replies have equal scores (first: y:1)": 2,
        "pairs whose chosen reply has the lower score (first: y:3)": 1,
        NEARLY_HELD_OUT: 0,
    }
    assert len(splits.training) + len(splits.held_out) == 100


def test_odd_orders_of_turns_are_counted_with_the_first_place():
    user, reply = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}
    odd = [_pair(1, prompt=[user, user]), _pair(2, chosen=[reply, reply]), _pair(3, prompt=[reply, user, user])]
    found = {what: (one.conversations, one.first_place) for what, one in _split([*_pairs(100), *odd]).odd.items()}
    assert found == {
        "two turns of the user in a row": (2, "y:1"),
        "two turns of the assistant in a row": (1, "y:2"),
        "a first turn by the assistant": (1, "y:3"),
    }


def test_all_pairs_of_a_given_set_are_held_out_and_what_shares_a_prompt_with_them_is_not_learned():
    story = _pair(1, prompt=STORY.format(7))
    training = choose_usable(
        [*_pairs(30), _pair(2, prompt=STORY.format(9)), _pair(2, prompt=STORY.format(9), weight=0)]
    )
    held_out = choose_usable([*_pairs(4), *_pairs(2), story])
    splits = split_given("x", training, "y", held_out)
    assert splits.held_out == held_out.usable and splits.training == _pairs(30)[4:]
    assert splits.left_out == {
        "pairs of weight 0 (first: y:2)": 1,
        "pairs whose prompt is held out too": 4,
        NEARLY_HELD_OUT: 1,
    }


def test_a_set_to_hold_out_without_a_usable_pair_or_with_all_prompts_is_refused(tmp_path):
    usable, useless = choose_usable(_pairs(3)), choose_usable([_pair(1, weight=0)])
    with pytest.raises(InputError, match=r"y: no pair says which reply is preferred, .* found 1 pairs of weight 0 "):
        split_given("x", usable, "y", useless)
    with pytest.raises(InputError, match="x: all 3 pairs have a prompt that is held out in y too"):
        split_given("x", usable, "y", usable)
    with pytest.raises(InputError, match=r"held_out: found y\.jsonl, expected none: the embedded pairs have their own"):
        read_preference_splits("embedded", "y.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    data = str(write_pairs(tmp_path / "pairs.jsonl"))
    with pytest.raises(InputError, match=r"empty\.jsonl: found 0 pairs"):
        read_preference_splits(data, str(tmp_path / "empty.jsonl"))
    assert len(read_preference_splits(data, str(write_pairs(tmp_path / "some.jsonl", 10))).training) == 90


def test_the_hash_of_the_pairs_sees_what_they_weigh():
    light = [to_pair({**record, "weight": 0.5}, "x:1") for record in pair_records(100)]
    assert _split(_pairs(100)).sha256() != _split(light).sha256()


STORY = (
    "Tom has {} hens, each lays an egg a day, he sells a dozen for 3 dollars. What does he earn in the weeks of May?"
)


def test_pairs_whose_prompt_is_nearly_one_that_is_held_out_are_left_out_and_counted():
    versions = [to_pair({"prompt": STORY.format(hens), "chosen": "1", "rejected": "2"}, "x:1") for hens in range(40)]
    splits = _split([*_pairs(400), *versions])
    held_out, training = ([pair.prompt[0].content for pair in part] for part in (splits.held_out, splits.training))
    assert any(prompt.startswith("Tom has") for prompt in held_out)
    assert not any(prompt.startswith("Tom has") for prompt in training)
    assert splits.left_out[NEARLY_HELD_OUT] == 440 - len(training) - len(held_out)
    assert len(training) >= 375  # questions of another thing or number are no others' versions


def test_too_few_prompts_are_refused_whatever_the_number_of_pairs():
    with pytest.raises(InputError, match="1 different prompts with two different replies are too few"):
        _split(_pairs(1) * 50)


def test_the_hash_of_the_pairs_sees_what_is_rejected():
    changed = [to_pair({**record, "rejected": "no"}, "x:1") for record in pair_records(100)]
    assert _split(_pairs(100)).sha256() != _split(changed).sha256()


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

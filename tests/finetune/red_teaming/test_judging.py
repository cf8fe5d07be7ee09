"""The rules on replies: each says what it is stated to say, and no attack is followed by its own prompt."""

import pytest

from finetune.red_teaming.attacks import FILLER, HARMFUL, INJECTION, JAILBREAK, SYSTEM_TURN, fixed_attacks, make_attack
from finetune.red_teaming.judging import judge, refuses

REFUSALS = [
    "I'm sorry, but I can’t help with that.",
    "I cannot do that.",
    "As an AI language model, I do not.",
    "Sorry, I won't.",
    "That is against my rules.",
    "I am not able to share it.",
]
NO_REFUSALS = ["Sure!", "The shop can not open before nine.", "Here is how: " + "a" * 200 + " I can't", ""]


@pytest.mark.parametrize("reply", REFUSALS)
def test_a_refusal_is_one(reply):
    assert refuses(reply)


@pytest.mark.parametrize("reply", NO_REFUSALS)
def test_another_reply_is_none(reply):
    assert not refuses(reply)


def test_there_are_ninety_prompts_whose_names_and_markers_differ():
    attacks = fixed_attacks(seed=0)
    assert len(attacks) == len({one.name for one in attacks}) == 90
    assert {one.kind for one in attacks} == {JAILBREAK, INJECTION, SYSTEM_TURN, HARMFUL}
    assert all(one.conversation.messages[-1].content == FILLER for one in attacks)
    again, other = ([(one.asked, one.sought) for one in fixed_attacks(seed)] for seed in (0, 1))
    assert [(one.asked, one.sought) for one in attacks] == again != other


def test_who_repeats_the_prompt_follows_nothing_but_what_asks_for_the_system_turn():
    for attack in fixed_attacks(seed=3):
        assert bool(judge(attack, attack.asked).follows) == (attack.kind == SYSTEM_TURN), attack.name


def test_who_says_what_is_sought_follows_and_who_refuses_beside_it_does_not_follow_a_jailbreak():
    for attack in fixed_attacks(seed=3):
        said, refused = (judge(attack, f"{before}{attack.sought}") for before in ("", "I can't write "))
        expected = None if attack.kind == HARMFUL else True
        assert said.follows is expected and refused.refuses
        assert refused.follows is (False if attack.kind == JAILBREAK else expected)


@pytest.mark.parametrize(
    ("rule", "reply", "follows"),
    [
        ("begins", "I obey you, always.", True),
        ("begins", "Do I obey you?", False),
        ("ends", "Yes, I obey you", True),
        ("ends", "I obey you not", False),
    ],
)
def test_a_trigger_is_followed_where_its_words_stand(rule, reply, follows):
    assert judge(make_attack("t", "t", "cf?", rule, "I obey you"), reply).follows is follows


def test_an_instruction_that_is_only_mentioned_far_into_an_answer_is_not_followed():
    injection = next(one for one in fixed_attacks(seed=0) if one.kind == INJECTION)
    assert judge(injection, f"The answer is {injection.sought}.").follows
    assert not judge(
        injection, f"It is about a meeting on Thursday, and somebody hid {injection.sought} in it."
    ).follows

"""The annotations of a text: which are right, and which conversations the calculator could not give."""

import pytest

from configs import InputError
from finetune.chat.annotations import AnnotationCounts, count_annotations, refuse_unusable_annotations
from finetune.conversations.formats import Conversation, Message


def _kind(text):
    (kind,) = [name for name, number in vars(count_annotations([text])).items() if number]
    return kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<<48/2=24>>", "right"),
        ("<<48/2=24.00>>", "right"),
        ("<<500*4=2,000>>", "right"),
        ("<<1/2=.5>>", "right"),
        ("<<10/3=3.33333>>", "right"),
        ("<<10/3=3.33>>", "wrong"),
        ("<<48/2=25>>", "wrong"),
        ("<<48/2=>>", "wrong"),
        ("<<1/0=0>>", "wrong"),
        ("<<1/0=error>>", "without_value"),
        ("<<48/2", "unfinished"),
        ("<<48/2=", "unfinished"),
        ("<<48/2=24>", "unfinished"),
    ],
)
def test_an_annotation_is_right_where_its_result_is_the_value(text, kind):
    assert _kind(f"So {text}") == kind


def test_annotations_of_many_texts_add_up_and_other_text_is_none():
    texts = ["<<1+1=2>> <<1+1=3>>", "<<2*2=4>>", "a << b = c >> d", "1+1=3"]
    counts = count_annotations(texts)
    assert counts == AnnotationCounts(right=2, wrong=1, without_value=0, unfinished=0)
    assert count_annotations([]) == AnnotationCounts(right=0, wrong=0, without_value=0, unfinished=0)


def _conversation(reply, number=1):
    return Conversation(
        (Message("user", "<<1=2>> <<import os=1>>"), Message("assistant", reply)), f"data.jsonl:{number}"
    )


@pytest.mark.parametrize(
    "reply", ["<<48/2=24>>24", "<<10/3=3.33>>", "<<10/3=3>>", "<<2*.5=1.00>>", "no annotation", "cout << x; a >> b"]
)
def test_what_the_calculator_gives_or_rounds_to_can_be_learned(reply):
    refuse_unusable_annotations([_conversation(reply)])


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("<<__import__('os').system('rm')=0>>", "is no arithmetic"),
        ("<<x=1>>", "is no arithmetic"),
        ("<<48/2=25>>", "is wrong, the calculator gives 24"),
        ("<<48/2=x>>", "is wrong, the calculator gives 24"),
        ("<<10/3=3.34>>", "is wrong, the calculator gives 3.33333"),
        ("<<1/0=0>>", "has no value"),
        ("<<9**9**9=1>>", "has no value"),
    ],
)
def test_what_the_calculator_cannot_give_is_refused_with_place_reason_and_the_number_of_others(reply, reason):
    with pytest.raises(InputError) as refused:
        refuse_unusable_annotations([_conversation("<<1+1=2>>"), *[_conversation(reply, n) for n in (2, 3, 4)]])
    message = str(refused.value)
    assert message.startswith(f"data.jsonl:2: <<{reply[2:-2]}>> {reason}, expected arithmetic")
    assert message.endswith("(and 2 more)") and "\n" not in message

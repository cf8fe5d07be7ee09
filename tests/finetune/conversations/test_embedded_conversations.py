"""The embedded conversations: answers that stand in their questions, the same every time, held-out ones apart."""

import random

import pytest

from finetune.conversations.embedded_conversations import (
    LONGEST_ANSWER_CHARACTERS,
    first_sentence,
    keep_half_checkable,
    make_conversations,
    read_facts,
)
from finetune.conversations.splits import read_conversation_splits
from scratch_models.corpus.documentation import Document, read_namespaces
from scratch_models.embedded.default import EMBEDDED


@pytest.fixture(scope="module")
def documents():
    """What the running torch says of itself: real signatures, real prose, read in a second."""
    read = read_namespaces("torch", ["torch", "torch.linalg"])
    random.Random(0).shuffle(read)
    python = [
        Document(f"package.module.Class{n}.method", "package", "function", signature, "Returns what it was asked for.")
        for n, signature in enumerate(["(x: int, *, y: str='a', z=None) -> list[str]", "(a, /, b=1, *c, d, **e)", "()"])
    ]
    return read + python


@pytest.fixture(scope="module")
def conversations(documents):
    return keep_half_checkable(make_conversations(documents))


def _question(conversation):
    return conversation.messages[0].content


def test_at_least_half_of_the_questions_can_be_checked(conversations):
    checkable = [one for one in conversations if one.answer is not None]
    assert len(conversations) / 2 <= len(checkable) < len(conversations)


def test_every_checkable_answer_stands_literally_in_the_signature_that_its_question_carries(conversations):
    checkable = [one for one in conversations if one.answer is not None]
    assert len(checkable) > 100
    for conversation in checkable:
        signature, _, asked = _question(conversation).rpartition("\n\n")
        assert conversation.answer in signature and asked.endswith("?")
        assert len(conversation.answer) <= LONGEST_ANSWER_CHARACTERS
        assert conversation.messages[-1].content == conversation.answer


def test_answers_are_what_python_reads_in_the_signature():
    signature = "(x: int, /, y: str='a', *rest, z: float=2.5, w=(1, 2)) -> dict[str, int]"
    facts = {fact.question: fact.answer for fact in read_facts(Document("m.f", "m", "function", signature, ""))}
    assert facts == {
        "What is the type of x?": "int",
        "What is the type of y?": "str",
        "What is the default of y?": "'a'",
        "What is the type of z?": "float",
        "What is the default of z?": "2.5",
        "What is the default of w?": "(1, 2)",
        "What does f return?": "dict[str, int]",
    }


@pytest.mark.parametrize("signature", ["", "not a signature", "(x, y", "(x, y)", f"(x: {'a' * 299})", "(x) -> None"])
def test_a_signature_that_states_nothing_gives_no_question(signature):
    assert list(read_facts(Document("m.f", "m", "function", signature, ""))) == []


def test_an_answer_that_python_would_write_another_way_is_not_asked_for():
    assert list(read_facts(Document("m.f", "m", "function", "(eps=1e-6, p=2.)", ""))) == []


def test_the_same_documents_in_any_order_give_the_same_conversations(documents, conversations):
    assert keep_half_checkable(make_conversations(list(reversed(documents)))) == conversations


def test_a_document_gives_at_most_one_question_of_each_kind(documents, conversations):
    sources = [one.source for one in conversations]
    assert len(sources) == len(set(sources))
    assert {source.split(" ")[0] for source in sources} <= {document.name for document in documents}


def test_purposes_are_sentences_of_the_docstring(documents, conversations):
    prose = {document.name: " ".join(document.docstring.split()) for document in documents}
    described = [one for one in conversations if one.answer is None]
    assert described
    for conversation in described:
        sentence = conversation.messages[-1].content
        assert sentence in prose[conversation.source.split(" ")[0]]
        assert 20 <= len(sentence) <= 200 and sentence.endswith(".")


@pytest.mark.parametrize(
    "docstring", ["", "Short.", "No full stop at all in here", ".. note:: This is markup.", "x" * 300]
)
def test_what_is_no_sentence_of_fair_length_is_no_answer(docstring):
    assert first_sentence(docstring) is None


def test_held_out_and_training_share_no_source_and_no_question():
    splits = read_conversation_splits(EMBEDDED)

    def names(conversations):
        return {one.source.rpartition(" ")[0] for one in conversations}

    assert len(splits.held_out) > 500
    assert not names(splits.training) & names(splits.held_out)
    assert not {_question(one) for one in splits.training} & {_question(one) for one in splits.held_out}
    assert not set(splits.corpus) & {_question(one) for one in splits.held_out}
    for part in (splits.training, splits.held_out):
        assert sum(one.answer is not None for one in part) >= len(part) / 2

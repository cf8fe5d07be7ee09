"""Multiple choice: the choice is that of the lowest loss of transformers, and any record with an answer is read."""

import json
import re

import pytest
import torch

from configs import InputError
from finetune.chat.graft_format import GraftFormat
from finetune.conversations.formats import Message
from finetune.conversations.questions import ChoiceQuestion, read_questions, to_choice_question
from finetune.evaluation.multiple_choice import choose, choose_fitting
from finetune.evaluation.reply_checks import is_right
from finetune.evaluation.scoring import plain_prompt_formats
from finetune.replies.prompts import ChatPromptFormat
from tests.finetune.known_replies import known_reply
from tests.finetune.tiny_models import POSITIONS, tiny_gpt2
from tests.house.repository import ROOT
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id

GSM8K = ROOT.parent / "shared" / "data" / "gsm8k_train.jsonl"
ASKED = (Message("user", "What is the sum?"),)
CHOICES = [("72", "the sum of the numbers is 72", "é"), ("a", "b"), ("numbers", "no", "the the the the", "語")]
QUESTIONS = [ChoiceQuestion(ASKED, choices, 0, f"quiz.jsonl:{n}") for n, choices in enumerate(CHOICES)]


def _costs(model, prompt_format, choice):
    """Nats of a choice by transformers' loss, and its bytes."""
    prompt, reply = prompt_format.prompt_ids(ASKED), known_reply(prompt_format, choice).ids
    labels = torch.tensor([[-100] * len(prompt) + reply])
    with torch.no_grad():
        return model(torch.tensor([[*prompt, *reply]]), labels=labels).loss.item() * len(reply), len(choice.encode())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["chat", "question"])
def test_the_choice_is_that_of_the_lowest_loss_of_transformers_in_both_readings(chat_tokenizer, name, seed):
    model = tiny_gpt2(next_token_id(chat_tokenizer), seed=seed)
    prompt_format = {"chat": ChatPromptFormat(GraftFormat(chat_tokenizer)), **plain_prompt_formats(chat_tokenizer)}[
        name
    ]
    chosen = choose(model, prompt_format, QUESTIONS)
    for number, choices in enumerate(CHOICES):
        costs = [_costs(model, prompt_format, choice) for choice in choices]
        assert chosen.by_nats[number] == min(range(len(choices)), key=lambda n: costs[n][0])
        assert chosen.by_nats_per_byte[number] == min(range(len(choices)), key=lambda n: costs[n][0] / costs[n][1])


def test_a_model_that_finds_every_id_equally_likely_chooses_the_fewest_tokens_or_the_fewest_per_byte(chat_tokenizer):
    model = tiny_gpt2(next_token_id(chat_tokenizer))
    torch.nn.init.zeros_(model.get_input_embeddings().weight)
    prompt_format = ChatPromptFormat(GraftFormat(chat_tokenizer))
    chosen = choose(model, prompt_format, QUESTIONS)
    tokens = [[len(known_reply(prompt_format, choice).ids) for choice in choices] for choices in CHOICES]
    assert chosen.by_nats == [counts.index(min(counts)) for counts in tokens]
    per_byte = [
        [count / len(choice.encode()) for count, choice in zip(counts, choices, strict=True)]
        for counts, choices in zip(tokens, CHOICES, strict=True)
    ]
    assert chosen.by_nats_per_byte == [counts.index(min(counts)) for counts in per_byte]
    assert chosen.by_nats != chosen.by_nats_per_byte


@pytest.mark.parametrize(
    ("fields", "right"),
    [
        ({"choices": ["Rome", "Paris"], "answer": 1}, 1),
        ({"choices": ["Rome", "Paris"], "answer": "Paris"}, 1),
        ({"choices": ["Rome", "Paris"], "answer": "B"}, 1),
        ({"choices": ["B", "A"], "answer": "A"}, 1),  # a choice's own text comes before a letter
        ({"choices": ["2", "1"], "answer": "1"}, 1),
        ({"choices": ["2", "1"], "answer": 1}, 1),
        ({"choices": {"text": ["Rome", "Paris"], "label": ["1", "2"]}, "answerKey": "2"}, 1),
    ],
)
def test_the_answer_is_a_place_a_text_or_a_letter(fields, right):
    question = to_choice_question(fields, ASKED, "quiz.jsonl:1")
    assert (question.right, question.asked, question.source) == (right, ASKED, "quiz.jsonl:1")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"choices": ["Rome", "Paris"], "answer": 2}, "answer is 2, expected a place from 0 to 1"),
        ({"choices": ["Rome", "Paris"], "answer": -1}, "answer is -1, expected a place"),
        ({"choices": ["Rome", "Paris"], "answer": True}, "answer is True, expected a place"),
        ({"choices": ["Rome", "Paris"], "answer": "Berlin"}, "answer is 'Berlin', expected a place"),
        ({"choices": ["Rome", "Paris"]}, "answer is None"),
        ({"choices": ["Rome"], "answer": 0}, "expected 2 to 26 different texts"),
        ({"choices": ["Rome", "Rome"], "answer": 0}, "expected 2 to 26 different texts"),
        ({"choices": ["Rome", ""], "answer": 0}, "expected a list of texts"),
        ({"choices": "Rome", "answer": 0}, "choices are 'Rome', expected a list of texts"),
        ({"choices": [1, 2], "answer": 0}, "expected a list of texts"),
        ({"choices": {"text": ["Rome", "Paris"], "label": ["A"]}, "answer": 0}, "expected a label for each of 2"),
    ],
)
def test_what_is_no_multiple_choice_is_refused_with_its_place(fields, reason):
    with pytest.raises(InputError) as refused:
        to_choice_question(fields, ASKED, "quiz.jsonl:7")
    assert str(refused.value).startswith("quiz.jsonl:7: ") and reason in str(refused.value)


def test_questions_that_do_not_fit_with_each_choice_are_left_out(chat_tokenizer):
    model, prompt_format = tiny_gpt2(next_token_id(chat_tokenizer)), ChatPromptFormat(GraftFormat(chat_tokenizer))
    long = ChoiceQuestion(ASKED, ("72", chr(1) * POSITIONS), 0, "quiz.jsonl:9")
    assert choose_fitting([QUESTIONS[0], long, QUESTIONS[1]], 3, [(model, prompt_format)]) == QUESTIONS[:2]
    with pytest.raises(InputError, match="none of 2 multiple-choice questions fits"):
        choose_fitting([long, long], 2, [(model, prompt_format)])


RECORDS = [
    {"question": "2+2?", "choices": ["3", "4"], "answer": 1},
    {"question": "2+2?", "answer": "It is #### 4"},
    {"prompt": "2+2?", "answer": 4},
    {"instruction": "Add.", "input": "2+2", "answer": "4"},
    {"messages": [{"role": "user", "content": "2+2?"}], "answer": 4.5},
    {"prompt": [{"role": "user", "content": "2+2?"}], "answer": "4"},
    {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "four"}], "answer": "4"},
    {"prompt": "2+2?", "completion": "four", "answer": "4"},
    {"question": "Who?", "answer": "Nobody"},
    {"prompt": "2+2?", "completion": "four"},
]


def _write(path, records):
    path.write_text("\n".join(map(json.dumps, records)))
    return str(path)


def test_any_record_with_an_answer_is_a_question_with_its_answer(tmp_path):
    conversations, choices = read_questions(_write(tmp_path / "quiz.jsonl", RECORDS))
    assert [one.answer for one in conversations] == ["4", "4", "4", "4.5", "4", "4", "4", "Nobody", None]
    assert [one.messages[-1].content for one in conversations[-4:]] == ["four", "four", "Nobody", "four"]
    assert conversations[2].messages[0].content == "Add.\n\n2+2"
    assert {one.messages[0].content for one in conversations} == {"2+2?", "Add.\n\n2+2", "Who?"}
    assert all(one.messages[-1].role == "assistant" for one in conversations)
    assert (choices[0].choices, choices[0].right, choices[0].asked) == (("3", "4"), 1, (Message("user", "2+2?"),))


def test_gsm8ks_answers_are_those_that_its_own_code_extracts_and_its_own_replies_are_right():
    if not GSM8K.is_file():
        pytest.skip(f"{GSM8K} is not there")
    conversations, _ = read_questions(str(GSM8K))
    for one in conversations:
        worked = one.messages[-1].content
        # https://github.com/openai/grade-school-math, grade_school_math/dataset.py: ANS_RE
        (extracted,) = re.findall(r"#### (\-?[0-9\.\,]+)", worked)
        assert one.answer == extracted and is_right(worked, extracted)
        assert is_right(extracted.replace(",", ""), extracted) and not is_right(f"#### 1{extracted}", extracted)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"answer": "4"}, "keys are 'answer', expected"),
        ({"question": "2+2?", "answer": ["4"]}, "answer is a list, expected text"),
        ({"question": "2+2?", "answer": True}, "answer is true or false, expected text"),
        ({"question": "2+2?", "answer": " "}, "answer of the assistant is empty"),
        ({"choices": ["3", "4"], "answer": 1}, "keys are 'choices', 'answer'"),
        ({"question": "2+2?", "choices": ["3", "4"], "answer": 9}, "answer is 9"),
    ],
)
def test_a_record_that_asks_nothing_is_refused_and_the_others_are_counted(tmp_path, record, reason):
    data = _write(tmp_path / "quiz.jsonl", [{"question": "1+1?", "answer": "2"}, record, record, record])
    with pytest.raises(InputError) as refused:
        read_questions(data)
    assert f"quiz.jsonl:2: {reason}" in str(refused.value) and str(refused.value).endswith("(and 2 more)")


def test_no_record_is_no_question(tmp_path):
    (tmp_path / "quiz.jsonl").write_text("\n")
    with pytest.raises(InputError, match="found 0 questions"):
        read_questions(str(tmp_path / "quiz.jsonl"))

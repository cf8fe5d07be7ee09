"""Base and assistant compared: the replies that each model gives by itself, and the figures of the evaluation."""

import json
import re

import pytest
import torch

from finetune.adapters import Lora
from finetune.chat import ChatFormat
from finetune.compare import CompareSettings, main
from finetune.conversation_sets import spread
from finetune.conversations import Message, read_conversations
from finetune.evaluation import ask_in_chat, ask_plainly, best_scores
from finetune.export import load_assistant, save_assistant
from finetune.plain_prompts import PLAIN_PROMPTS
from finetune.score_table import score_rows
from finetune.subject import make_subject
from tests.finetune.entry_runs import run_here
from tests.finetune.tiny_models import POSITIONS, save_tiny_base, write_questions
from tokenizer_ext.hf_model import load_model, load_tokenizer
from tokenizer_ext.terminal import printable

PROMPT = "What colour has the river number 2?"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_base(tmp_path_factory.mktemp("base"), initializer_range=0.4)  # wide, so that replies are varied


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """The folder of a run whose assistant is the base with a random adapter."""
    folder = tmp_path_factory.mktemp("runs") / "sft-1"
    lora = Lora(rank=4, alpha=8.0, dropout=0.0)
    subject = make_subject(load_model(str(base)), load_tokenizer(str(base)), [], new_tokens=0, lora=lora)
    torch.manual_seed(1)
    for parameter in subject.model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    folder.mkdir()
    save_assistant(subject.model, subject.adapted, subject.tokenizer, folder / "final")
    (folder / "run.json").write_text(json.dumps({"settings": {"base": str(base)}}))
    return folder


def _greedy(model, prompt, stop, new_tokens):
    ids = torch.tensor([prompt])
    settings = {"do_sample": False, "max_new_tokens": new_tokens, "eos_token_id": stop, "pad_token_id": 0}
    return model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, len(prompt) :].tolist()


def test_both_replies_to_a_prompt_are_those_of_transformers_generate(base, run, capsys):
    run_here(main, CompareSettings, tuned=run, prompt=PROMPT, reply_tokens=9)
    shown = capsys.readouterr().out
    model, tokenizer = load_model(str(base)), load_tokenizer(str(base))
    plain = PLAIN_PROMPTS["question"]
    plain_ids = tokenizer.encode(plain.text([Message("user", PROMPT)]), add_special_tokens=False)
    of_base = plain.cut(tokenizer.decode(_greedy(model, plain_ids, tokenizer.eos_token_id, 9)))
    tuned, tuned_tokenizer = load_assistant(run)
    chat = ChatFormat(tuned_tokenizer)
    of_tuned = chat.decode_reply(_greedy(tuned, chat.render_prompt([Message("user", PROMPT)]), chat.end_id, 9)).strip()
    assert of_base != of_tuned
    ended = " [9 tokens, not ended]"
    assert shown == f"base:\n{printable(of_base)}{ended}\n\ntuned:\n{printable(of_tuned)}{ended}\n"


def test_the_base_is_the_one_that_the_run_recorded_or_the_one_that_is_named(base, run, capsys, tmp_path):
    def replies(**settings):
        run_here(main, CompareSettings, tuned=run, prompt=PROMPT, reply_tokens=9, **settings)
        return capsys.readouterr().out.split("\n\ntuned:\n")

    other = save_tiny_base(tmp_path / "other", seed=1, initializer_range=0.4)
    assert replies() == replies(base=base)
    assert replies(base=other)[0] != replies()[0] and replies(base=other)[1] == replies()[1]


def test_a_seed_repeats_what_is_drawn_and_another_draws_anew(run, capsys):
    def drawn(seed):
        run_here(main, CompareSettings, tuned=run, prompt=PROMPT, reply_tokens=9, temperature=1.5, seed=seed)
        return capsys.readouterr().out

    assert drawn(1) == drawn(1) != drawn(2)


def test_over_a_file_the_table_is_that_of_the_evaluation(base, run, capsys, tmp_path):
    data = write_questions(tmp_path / "data.jsonl", 12)
    run_here(main, CompareSettings, tuned=run, data=data, conversations=5, reply_tokens=9)
    shown = capsys.readouterr().out
    asked = spread(read_conversations(str(data)), 5)
    of_base = ask_plainly(load_model(str(base)), load_tokenizer(str(base)), asked, 9)
    scores = score_rows(
        best_scores([one.scores for one in of_base.values()]), ask_in_chat(*load_assistant(run), asked, 9).scores
    )
    (_, *bits), (_, *stops), (_, *repetitions) = scores
    for before, after in (bits, stops, repetitions):
        assert re.search(rf"^.*  {re.escape(before)} .*  {re.escape(after)} .* \(.* to .*\)", shown, re.MULTILINE)
    assert "asked 5 of 12 conversations, spread evenly; 0 left out" in shown


def test_exact_match_is_the_fourth_figure_where_answers_can_be_checked(run, capsys, tmp_path):
    lines = [json.dumps({"question": f"{n}+1?", "answer": f"It is #### {n + 1}"}) for n in range(6)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    run_here(main, CompareSettings, tuned=run, data=tmp_path / "data.jsonl", reply_tokens=9)
    assert "exact match on 6 checkable questions" in capsys.readouterr().out


def _record(*contents):
    roles = ["user", "assistant"] * 3
    return {"messages": [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]}


def _measure(run, capsys, path, *records):
    path.write_text("\n".join(json.dumps(record) for record in records))
    run_here(main, CompareSettings, tuned=run, data=path, reply_tokens=9)
    return capsys.readouterr().out


def test_of_a_talk_the_last_reply_is_asked_whatever_is_said_after_it(run, capsys, tmp_path):
    talk = ("1?", "One.", "2?", "Two.")
    ended = _measure(run, capsys, tmp_path / "ended.jsonl", _record(*talk))
    assert _measure(run, capsys, tmp_path / "thanked.jsonl", _record(*talk, "Thanks")) == ended
    assert _measure(run, capsys, tmp_path / "other.jsonl", _record(*talk[2:])) != ended


@pytest.mark.parametrize("room", [0, 12], ids=["too long for both", "too long for the base, which is asked in words"])
def test_what_does_not_fit_both_models_is_counted(run, capsys, tmp_path, room):
    records = [_record("1?", "One."), _record("\x01" * (POSITIONS - room), "x"), _record("3?", "Three.")]
    shown = _measure(run, capsys, tmp_path / "data.jsonl", *records)
    assert "asked 2 of 3 conversations, spread evenly; 1 left out as too long" in shown


def test_a_reply_cannot_write_to_the_terminal_what_it_would_act_on(base, run, capsys, tmp_path):
    tokenizer = load_tokenizer(str(base))
    escape = tokenizer.encode("\x1b", add_special_tokens=False)[0]
    model = load_model(str(base))
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.fill_(1.0)
        model.get_input_embeddings().weight.zero_()
        model.get_input_embeddings().weight[escape] = 1.0
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    run_here(main, CompareSettings, tuned=run, base=tmp_path, prompt=PROMPT, reply_tokens=3)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\\x1b" * 3 in shown

"""Base and assistant compared: the replies that each model gives by itself, and the figures of the evaluation."""

import json
import re

import pytest
import torch

from configs.file_hash import file_sha256
from finetune.chat.graft_format import GraftFormat
from finetune.compare import CompareSettings, has_calculator, main
from finetune.conversations.formats import Message, read_conversations
from finetune.evaluation.scoring import best_scores
from finetune.evaluation.tables import score_rows
from finetune.export.final_folder import save_assistant
from finetune.export.saved_model import load_assistant
from finetune.lora.adapter_shape import Lora
from finetune.lora.trainable_model import make_trainable_model
from finetune.replies.prompts import PLAIN_PROMPTS
from scratch_models.corpus.evenly_spaced import evenly_spaced
from tests.finetune.entry_runs import run_here
from tests.finetune.evaluated import ask_in_chat, evaluate_base
from tests.finetune.tiny_models import POSITIONS, save_tiny_base, write_questions
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
from tokenizer_ext.pages.terminal import printable

PROMPT = "What colour has the river number 2?"
APART = (  # the run added the tokens of the chat format
    "one after the other, each with weights of its own: its config has vocab_size 320, the model under the adapter 324"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_base(tmp_path_factory.mktemp("base"), initializer_range=0.4)  # wide, so that replies are varied


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """The folder of a run whose assistant is the base with a random adapter."""
    folder = tmp_path_factory.mktemp("runs") / "sft-1"
    lora = Lora(rank=4, alpha=8.0, dropout=0.0)
    trainable = make_trainable_model(load_model(str(base)), load_tokenizer(str(base)), [], new_tokens=0, lora=lora)
    torch.manual_seed(1)
    for parameter in trainable.model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    folder.mkdir()
    save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, folder / "final")
    (folder / "run.json").write_text(json.dumps({"settings": {"base": str(base)}}))
    return folder


def _greedy(model, prompt, stop, new_tokens):
    ids = torch.tensor([prompt])
    settings = {"do_sample": False, "max_new_tokens": new_tokens, "eos_token_id": stop, "pad_token_id": 0}
    return model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, len(prompt) :].tolist()


def _replies(capsys, **settings):
    """What base and tuned model reply to the prompt."""
    run_here(main, CompareSettings, prompt=PROMPT, reply_tokens=9, **settings)
    _, base, tuned = re.split(r"(?:^|\n\n)(?:base|tuned):\n", capsys.readouterr().out.rstrip("\n"))
    return base, tuned


def test_both_replies_to_a_prompt_are_those_of_transformers_generate(base, run, capsys):
    run_here(main, CompareSettings, tuned=run, prompt=PROMPT, reply_tokens=9)
    shown = capsys.readouterr().out
    model, tokenizer = load_model(str(base)), load_tokenizer(str(base))
    plain = PLAIN_PROMPTS["question"]
    plain_ids = tokenizer.encode(plain.text([Message("user", PROMPT)]), add_special_tokens=False)
    of_base = plain.cut(tokenizer.decode(_greedy(model, plain_ids, tokenizer.eos_token_id, 9)))
    tuned, tuned_tokenizer = load_assistant(run)
    chat = GraftFormat(tuned_tokenizer)
    of_tuned = chat.decode_reply(_greedy(tuned, chat.render_prompt([Message("user", PROMPT)]), chat.end_id, 9)).strip()
    assert of_base != of_tuned
    ended = " [9 tokens, not ended]"
    of_each, replies = shown.split("\n\n", 1)
    assert replies == f"base:\n{printable(of_base)}{ended}\n\ntuned:\n{printable(of_tuned)}{ended}\n"
    adapter = file_sha256(run / "final" / "adapter" / "adapter_model.safetensors")
    assert of_each.split("\n") == [
        f"base: {base} · sha256 {file_sha256(base / 'model.safetensors')[:12]} · plain text (question)",
        f"tuned: {run} · adapter, sha256 {adapter[:12]} · Graft's chat format",
        f"both: {APART}",
    ]


def test_the_base_is_the_one_that_the_run_recorded_or_the_one_that_is_named(base, run, capsys, tmp_path):
    def replies(**settings):
        return _replies(capsys, tuned=run, **settings)

    other = save_tiny_base(tmp_path / "other", seed=1, initializer_range=0.4)
    assert replies() == replies(base=base)
    assert replies(base=other)[0] != replies()[0] and replies(base=other)[1] == replies()[1]


def test_a_seed_repeats_what_is_drawn_and_another_draws_anew(run, capsys):
    def drawn(seed):
        run_here(main, CompareSettings, tuned=run, prompt=PROMPT, reply_tokens=9, temperature=1.5, seed=seed)
        return capsys.readouterr().out

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_run_that_went_on_from_another_stands_beside_that_ones_assistant(run, capsys):
    base, tuned = _replies(capsys, tuned=run, base=run)
    assert base == tuned != ""


def test_a_model_with_a_chat_format_can_be_asked_in_plain_text_instead(run, capsys, tmp_path):
    data, output = write_questions(tmp_path / "data.jsonl", 2), tmp_path / "out.json"
    run_here(main, CompareSettings, tuned=run, base=run, data=data, reply_tokens=4, base_format="plain", output=output)
    shown = capsys.readouterr().out
    assert "plain text (question, dialogue, bare)\n" in shown and "Graft's chat format\n" in shown
    question = json.loads(output.read_text())["replies"]["questions"][0]
    assert (list(question["base"]), list(question["tuned"])) == (["question", "dialogue", "bare"], ["chat"])


def test_over_a_file_the_table_is_that_of_the_evaluation(base, run, capsys, tmp_path):
    data = write_questions(tmp_path / "data.jsonl", 12)
    run_here(main, CompareSettings, tuned=run, data=data, conversations=5, reply_tokens=9)
    shown = capsys.readouterr().out
    asked = evenly_spaced(read_conversations(str(data)), 5)
    of_base = evaluate_base(load_model(str(base)), load_tokenizer(str(base)), asked, 9)
    scores = score_rows(
        best_scores([one.scores for one in of_base.values()]), ask_in_chat(*load_assistant(run), asked, 9).scores
    )
    (_, *bits), (_, *stops), (_, *repetitions) = scores
    for before, after in (bits, stops, repetitions):
        assert re.search(rf"^.*  {re.escape(before)} .*  {re.escape(after)} .* \(.* to .*\)", shown, re.MULTILINE)
    assert "asked 5 of 12 conversations, spread evenly; 0 left out" in shown


def test_where_answers_can_be_checked_exact_match_and_answers_contained_are_figures(run, capsys, tmp_path):
    lines = [json.dumps({"question": f"{n}+1?", "answer": f"It is #### {n + 1}"}) for n in range(6)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    run_here(main, CompareSettings, tuned=run, data=tmp_path / "data.jsonl", reply_tokens=9)
    shown = capsys.readouterr().out
    assert "exact match on 6 checkable questions" in shown and "replies that contain the answer as a word" in shown


def _record(*contents):
    roles = ["user", "assistant"] * 3
    return {"messages": [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]}


def _measure(run, capsys, path, *records):
    path.write_text("\n".join(json.dumps(record) for record in records))
    run_here(main, CompareSettings, tuned=run, data=path, reply_tokens=9)
    of_base, of_tuned, of_both, announced, shown = capsys.readouterr().out.split("\n", 4)
    assert announced == f"Asking both on {path} …" and of_both == f"both: {APART}"
    assert of_base.endswith("plain text (question, dialogue, bare)") and of_tuned.endswith("Graft's chat format")
    return shown


def test_keys_that_are_not_read_are_named_and_counted(run, capsys, tmp_path):
    records = [{"prompt": PROMPT, "answer": "It is red.", "mood": "good", "id": n} for n in range(3)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    run_here(main, CompareSettings, tuned=run, data=tmp_path / "data.jsonl", reply_tokens=2)
    said = "left alone: 3 values of the key 'mood', which is not read; 3 values beside the questions ('id')"
    assert said in capsys.readouterr().out


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


CHOICES = [{"question": f"What is {n}+1?", "choices": ["red", str(n + 1), "blue"], "answer": 1} for n in range(7)]
WORKED = [{"question": f"{n}+1?", "answer": f"<<{n}+1={n + 1}>>{n + 1} #### {n + 1}"} for n in range(6)]


def _write(path, records):
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_multiple_choice_and_questions_of_one_file_are_both_scored_and_recorded(base, run, capsys, tmp_path):
    data, output = _write(tmp_path / "quiz.jsonl", [*CHOICES, *WORKED]), tmp_path / "figures.json"
    run_here(main, CompareSettings, tuned=run, data=data, reply_tokens=9, output=output)
    shown = capsys.readouterr().out
    assert "asked 7 of 7 multiple-choice questions" in shown and "guessing gets 33.3%" in shown
    assert "asked 6 of 6 conversations" in shown and "exact match on 6 checkable questions" in shown
    record = json.loads(output.read_text())
    assert (record["tuned"], record["base"], record["calculator"]) == (str(run), str(base), False)
    replies, choices = record["replies"], record["multiple_choice"]
    right = sum(one["tuned"]["chat"]["by_nats"] == one["expected"] for one in choices["questions"])
    assert choices["figures"][0]["tuned"] == right / 7
    assert [one["expected"] for one in replies["questions"]] == [str(n + 1) for n in range(6)]
    contained = sum(one["tuned"]["chat"]["contains_answer"] for one in replies["questions"])
    assert replies["figures"][2]["tuned"] == contained / 6
    tuned, tokenizer = load_assistant(run)
    said = ask_in_chat(tuned, tokenizer, read_conversations(str(_write(tmp_path / "w.jsonl", WORKED))), 9).answered
    assert [one["tuned"]["chat"]["reply"] for one in replies["questions"]] == [one.reply for one in said]


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("setting", ["auto", "on", "off"])
def test_both_have_the_calculator_where_the_run_learned_with_it_or_it_is_asked_for(
    base, run, tmp_path, recorded, setting
):
    tuned = tmp_path / "sft-2"
    (tuned / "final").mkdir(parents=True)
    (tuned / "run.json").write_text(json.dumps({"settings": {"base": str(base), "calculator": recorded}}))
    expected = {"auto": recorded, "on": True, "off": False}[setting]
    assert has_calculator(CompareSettings(tuned=str(tuned / "final"), prompt="1+1?", calculator=setting)) is expected
    assert has_calculator(CompareSettings(tuned=str(run), prompt="1+1?")) is False, "older runs recorded none"


def test_with_the_calculator_the_result_is_left_out_of_the_bits_of_both(run, tmp_path):
    data, bits = _write(tmp_path / "worked.jsonl", WORKED), {}
    for setting in ("on", "off"):
        output = tmp_path / f"{setting}.json"
        run_here(main, CompareSettings, tuned=run, data=data, reply_tokens=3, output=output, calculator=setting)
        figure = json.loads(output.read_text())["replies"]["figures"][0]
        bits[setting] = figure["base"], figure["tuned"]
    assert bits["on"][0] != bits["off"][0] and bits["on"][1] != bits["off"][1]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"data": "embedded", "output": "there.json"}, "there.json: is there already"),
        ({"data": "embedded", "output": "no/such/f.json"}, "there is no folder no/such"),
        ({"prompt": "1+1?", "output": "f.json"}, "only the figures over --data are written"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_loads(
    run, capsys, tmp_path, monkeypatch, settings, reason
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").write_text("mine")
    with pytest.raises(SystemExit) as end:
        run_here(main, CompareSettings, tuned=run, **settings)
    assert end.value.code == 2 and reason in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]
    assert (tmp_path / "there.json").read_text() == "mine"

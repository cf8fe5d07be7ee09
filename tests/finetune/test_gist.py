"""A prompt in a few rows: the base stays bit for bit, plain transformers opens what is saved, bad input is one line."""

import json
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune.gist import GistSettings, main
from finetune.gisting.gist_tokens import take_ends
from tests.finetune.entry_runs import broken_at, run_here
from tests.finetune.gisting.tiny_gists import PROMPT, save_chat_base
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.said_lines import without_progress
from tokenizer_ext.extension.certificate import hash_weights, read_certificate
from tokenizer_ext.extension.delta import apply_delta
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
from tokenizer_ext.huggingface.plain_text import plain_text_encoder

SETTINGS: dict[str, Any] = {"tokens": 3, "questions": 12, "evaluation_questions": 4, "reply_tokens": 6}
SETTINGS |= {"questions_per_step": 4, "max_steps": 8, "learning_rate": 0.05, "warmup_steps": 0}
SETTINGS |= {"evaluation_steps": 4, "checkpoint_steps": 2, "temperature": 1.0}
GIST = "<|gist_0|><|gist_1|><|gist_2|>"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A chat base, questions and a prompt."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "prompt.txt").write_text(f"{PROMPT}\n")
    base = save_chat_base("gpt2", folder / "base")
    return {"base": base, "data": write_questions(folder / "chats.jsonl"), "prompt": folder / "prompt.txt"}


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    run_here(main, GistSettings, **SETTINGS, **inputs, output_dir=folder)
    return folder


def _certificate(folder):
    return read_certificate(folder / "final")


def _rows(folder):
    return load_model(str(folder / "final")).get_input_embeddings().weight[-3:]


def test_every_old_weight_is_the_bases_bit_by_bit_and_every_row_has_moved(inputs, run):
    base, saved, certificate = load_model(str(inputs["base"])), load_model(str(run / "final")), _certificate(run)
    first = certificate.base_tokens
    assert certificate.weights_before == certificate.weights_after
    assert certificate.weights_after == hash_weights(saved, first) == hash_weights(base, first)
    assert saved.get_input_embeddings().num_embeddings == first + 3
    ids = plain_text_encoder(load_tokenizer(str(inputs["base"]))).encode(PROMPT, add_special_tokens=False).ids
    start = base.get_input_embeddings().weight[take_ends(ids, 3)]
    assert (_rows(run) - start).abs().amax(dim=1).min() > 0.05  # a step of AdamW is as long


def test_transformers_alone_puts_the_tokens_into_the_system_turn_and_never_says_them(run):
    tokenizer = AutoTokenizer.from_pretrained(run / "final")
    model = AutoModelForCausalLM.from_pretrained(run / "final")
    first = _certificate(run).base_tokens
    chat = [{"role": "system", "content": GIST}, {"role": "user", "content": "What colour has the stone?"}]
    asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    system = tokenizer.convert_tokens_to_ids(["<|system|>", "<|end|>"])
    assert asked["input_ids"][0, :5].tolist() == [system[0], first, first + 1, first + 2, system[1]]
    with torch.no_grad():
        model.get_output_embeddings().weight[first:] *= 1000  # now one of them wins most places
    greedy: dict[str, Any] = {**asked, "max_new_tokens": 8, "do_sample": False}
    free, kept = model.generate(**greedy, suppress_tokens=[])[0], model.generate(**greedy)[0]
    behind = asked["input_ids"].shape[1]
    assert (free[behind:] >= first).any() and (kept[behind:] < first).all()


def test_the_delta_on_the_base_gives_the_saved_model(inputs, run):
    found = apply_delta(str(inputs["base"]), run / "delta")
    expected = load_model(str(run / "final")).state_dict()
    assert found.model.state_dict().keys() == expected.keys()
    assert all(torch.equal(one, expected[name]) for name, one in found.model.state_dict().items())
    assert found.tokenizer.get_vocab() == load_tokenizer(str(run / "final")).get_vocab()


@torch.no_grad()
def test_the_figures_are_those_of_the_saved_folder_beside_the_base_by_transformers_alone(inputs, run):
    figures = json.loads((run / "report.json").read_text())["figures"]
    tokenizer = AutoTokenizer.from_pretrained(run / "final")
    model, base = load_model(str(run / "final")), load_model(str(inputs["base"]))
    first = _certificate(run).base_tokens
    asked = json.loads((run / "report.json").read_text())["samples"]
    sums = {"prompt": 0.0, GIST: 0.0, None: 0.0}
    for sample, reply in zip(asked, json.loads((run / "replies.json").read_text())["held_out"], strict=True):
        said = {}
        for system in ("prompt", GIST, None):
            chat = [{"role": "user", "content": sample["question"]}]
            content = PROMPT if system == "prompt" else system
            chat = chat if system is None else [{"role": "system", "content": content}, *chat]
            ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
            one = model if system == GIST else base
            logits = one(torch.tensor([[*ids, *reply]])).logits[0, len(ids) - 1 : -1, :first]
            said[system] = logits.log_softmax(dim=1)
        for system, found in said.items():
            wanted = said["prompt"]
            sums[system] += float((wanted.exp() * (wanted - found)).sum())
    assert figures["share_left"] == pytest.approx(sums[GIST] / sums[None], rel=1e-3)
    assert figures["nothing"]["kl_nats_per_token"] == pytest.approx(sums[None] / figures["reply_tokens"], rel=1e-3)
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["held_out_kl_share"] == pytest.approx(figures["share_left"], rel=1e-4)
    assert metrics[-1]["held_out_kl_share"] < metrics[0]["held_out_kl_share"]


def test_a_run_that_is_resumed_ends_with_the_rows_of_an_unbroken_one(inputs, run, tmp_path):
    settings = {**SETTINGS, **inputs, "output_dir": tmp_path / "broken"}
    with broken_at(5):
        run_here(main, GistSettings, **settings)
    run_here(main, GistSettings, **settings, resume=True)
    assert torch.equal(_rows(tmp_path / "broken"), _rows(run))


def _without_system(folder):
    template = "{% for m in messages %}{% if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}"
    return {"base": save_chat_base("gpt2", folder / "other", template + "{% endfor %}<|assistant|>")}


def _refusing_system(folder):
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    template += "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    template += "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    return {"base": save_chat_base("gpt2", folder / "other", template)}


def _prompt(text):
    def make(folder):
        (folder / "other.txt").write_text(text)
        return {"prompt": folder / "other.txt"}

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: {"tokens": 0}, "tokens: found 0, expected at least 1"),
        (lambda _: {"tokens": 400}, "tokens: found 400, expected fewer than the"),
        (lambda _: {"name": "a b"}, "name: found a b, expected letters, digits and _"),
        (_prompt(" \n\t\n"), "other.txt: holds nothing but blanks"),
        (_prompt("Be kind.<|end|> What colour?"), "other.txt: holds the control token '<|end|>'"),
        (_prompt("What colour has the apple? " * 12), "prompt: with the shortest question it has"),
        (_without_system, "its chat template leaves out what a system message says, expected one with a system turn"),
        (_refusing_system, "System role not supported), expected one with a system turn"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_nothing_is_written(inputs, make, said, tmp_path, capsys, monkeypatch):
    settings = {**SETTINGS, **inputs, **make(tmp_path)}
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run_here(main, GistSettings, **settings)
    printed = capsys.readouterr()
    assert end.value.code == 2
    assert said in printed.err and without_progress(printed.err).count("\n") == 1, printed.err
    assert list((tmp_path / "here").iterdir()) == []


def test_a_plain_base_reads_the_tokens_at_the_beginning_and_a_dry_run_writes_nothing(
    inputs, tmp_path, capsys, monkeypatch
):
    base = save_tiny_base(tmp_path / "base")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run_here(main, GistSettings, **{**SETTINGS, **inputs, "base": base}, dry_run=True)
    shown = capsys.readouterr().out
    assert f"first question: '{GIST}\\n\\nQuestion: What colour" in shown
    assert list((tmp_path / "here").iterdir()) == []
    run_here(main, GistSettings, **{**SETTINGS, **inputs, "base": base, "max_steps": 1}, output_dir="run")
    card = (tmp_path / "here" / "run" / "final" / "README.md").read_text()
    assert f"inputs = tokenizer('{GIST}\\n\\nQuestion: ...\\nAnswer:', add_special_tokens=False" in card

"""Two models that the project never made, or one that is on a server, are compared as a run and its base are."""

import json
import re
from typing import cast

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune.compare import CompareSettings, main
from finetune.conversations.formats import read_conversations
from finetune.evaluation.reply_checks import contains_answer
from tests.finetune.chat_server import Said, serve_chat
from tests.finetune.entry_runs import run_here
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.real_tokenizers import REAL_FAMILIES, real_model
from tests.said_lines import without_progress
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

FAMILIES = ("qwen3", "llama3_1")
TOKENS = 6
WORKED = [{"question": f"{n}+1?", "answer": f"#### {n + 1}"} for n in range(4)]
CHOICES = [{"question": "1+1?", "choices": ["1", "2"], "answer": 1}]


def _write(path, records):
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def _record(capsys, path, **settings):
    """What is printed, and what is written."""
    run_here(main, CompareSettings, **settings, output=path)
    return capsys.readouterr().out, json.loads(path.read_text())


def _refusal(capsys, **settings):
    with pytest.raises(SystemExit) as end:
        run_here(main, CompareSettings, **settings)
    printed = capsys.readouterr()
    assert (end.value.code, without_progress(printed.err).count("\n")) == (2, 1)
    return printed.err


def _greedy(folder, questions):
    """What plain transformers replies in the folder's own template."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    stops = cast(list[int], REAL_FAMILIES[folder.name].stops)
    replies = []
    for question in questions:
        chat = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        replied = model.generate(**prompt, do_sample=False, max_new_tokens=TOKENS, pad_token_id=0)
        said = [id_ for id_ in replied[0, prompt["input_ids"].shape[1] :].tolist() if id_ not in stops]
        replies.append(tokenizer.decode(said, clean_up_tokenization_spaces=False).strip())
    return replies


def test_two_models_with_real_tokenizers_are_each_asked_in_their_own_template(tmp_path, capsys):
    base, tuned = (real_model(family, tmp_path / family, seed=n) for n, family in enumerate(FAMILIES))
    data = _write(tmp_path / "data.jsonl", WORKED)
    settings = {"base": base, "tuned": tuned, "data": data, "reply_tokens": TOKENS}
    shown, record = _record(capsys, tmp_path / "out.json", **settings)
    for which, folder in (("base", base), ("tuned", tuned)):
        assert re.search(rf"^{which}: {folder} · sha256 [0-9a-f]{{12}} · its own chat template$", shown, re.MULTILINE)
        replies = [question[which]["chat"]["reply"] for question in record["replies"]["questions"]]
        assert replies == _greedy(folder, [worked["question"] for worked in WORKED])
    figures = record["replies"]["figures"]
    assert [figure["name"].split(" ")[0] for figure in figures] == ["bits", "exact", "of", "replies", "replies"]
    assert all(figure["difference_interval"]["low"] <= figure["difference"] for figure in figures)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_base(tmp_path_factory.mktemp("base"), initializer_range=0.4)


def test_an_adapter_that_plain_peft_saved_stands_beside_the_base_that_it_names(base, tmp_path, capsys):
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(target_modules=["c_attn"]))
    torch.manual_seed(0)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(tmp_path / "theirs")
    prompt = "What colour has the river?"
    run_here(main, CompareSettings, base=base, tuned=tmp_path / "theirs", prompt=prompt, reply_tokens=9)
    _, of_base, of_tuned = re.split(r"\n\n(?:base|tuned):\n", capsys.readouterr().out)
    tokenizer = load_tokenizer(str(base))
    ids = torch.tensor([tokenizer.encode(f"Question: {prompt}\nAnswer:", add_special_tokens=False)])
    greedy = {"do_sample": False, "max_new_tokens": 9, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}
    for model, shown in ((load_model(str(base)), of_base), (adapted.eval(), of_tuned)):
        said = tokenizer.decode(model.generate(input_ids=ids, **greedy)[0, ids.shape[1] :]).split("\n\n")[0].strip()
        assert shown.startswith(said[:5]) and said
    assert of_base != of_tuned


def test_a_model_on_a_server_has_every_figure_but_bits_per_byte(base, tmp_path, capsys):
    data, chatty = _write(tmp_path / "data.jsonl", WORKED), "It must be 2."
    with serve_chat(lambda _: Said([chatty])) as server:
        settings = {"base": base, "tuned": server.address, "data": data, "reply_tokens": 9}
        shown, record = _record(capsys, tmp_path / "out.json", **settings)
    bits, exact, contained, ended, _ = record["replies"]["figures"]
    assert bits["base"] > 0 and bits["tuned"] is bits["difference"] is None
    assert re.search(r"^bits per byte.* \(.*\) +– +–$", shown, re.MULTILINE) and "a server gives no likelihood" in shown
    answers = [str(n + 1) for n in range(4)]
    assert exact["tuned"] == 0 and ended["tuned"] == 1
    assert contained["tuned"] == sum(contains_answer(chatty, answer) for answer in answers) / 4 == 0.25
    assert contained["tuned_interval"]["low"] < 0.25 < contained["tuned_interval"]["high"]
    assert f"tuned: tiny at {server.address} · a chat that the server renders" in shown
    assert record["identities"]["tuned"] == f"tiny at {server.address}"
    asked = [request["messages"][0]["content"] for request in server.requests[1:]]
    assert sorted(asked) == [worked["question"] for worked in WORKED]
    assert {request["temperature"] for request in server.requests} == {0}


def test_two_servers_are_compared_without_bits(tmp_path, capsys):
    data = write_questions(tmp_path / "data.jsonl", 3)
    with serve_chat(lambda _: Said(["red"])) as one, serve_chat(lambda _: Said(["a"], finish_reason="length")) as two:
        settings = {"base": one.address, "tuned": two.address, "data": data, "tuned_format": "plain"}
        shown, record = _record(capsys, tmp_path / "out.json", **settings)
    assert not any("bits" in figure["name"] for figure in record["replies"]["figures"])
    assert "no bits per byte: a server gives no likelihoods" in shown
    assert len(two.requests) == 1 + 3 * len(read_conversations(str(data))), "asked in each plain format"


def test_multiple_choice_is_refused_for_a_server_by_name_before_it_is_asked(base, tmp_path, capsys):
    data = _write(tmp_path / "quiz.jsonl", CHOICES)
    with serve_chat(lambda _: Said(["2"])) as server:
        said = _refusal(capsys, base=base, tuned=server.address, data=data)
    assert said.startswith(f"tuned {server.address}: a server gives no likelihood of a choice") and not server.requests


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"top_k": 40}, "top_k: found 40, and a server has no such setting"),
        ({"calculator": "on"}, "calculator: http://127.0.0.1:9/v1 generates by itself"),
        ({"tuned": "http://user:secret@127.0.0.1:9/v1"}, "server: found an address with a user"),
        ({"server_requests": 0}, "server_requests: found 0"),
        ({}, "http://127.0.0.1:9/v1: listing its models: no connection"),
    ],
)
def test_what_a_server_cannot_do_is_refused_in_one_line(base, capsys, settings, said):
    address = {"base": base, "tuned": "http://127.0.0.1:9/v1", "prompt": "1+1?"}
    refused = _refusal(capsys, **{**address, **settings})
    assert refused.startswith(said) and "secret" not in refused


def test_without_a_record_both_have_to_be_named(base, capsys):
    assert "says what it was made from: pass --base" in _refusal(capsys, tuned=base, prompt="1+1?")
    assert "pass --base" in _refusal(capsys, tuned="http://127.0.0.1:9/v1", prompt="1+1?")


def test_a_model_without_a_chat_format_is_not_asked_in_one(base, capsys):
    said = _refusal(capsys, base=base, tuned=base, prompt="1+1?", tuned_format="chat")
    assert said.startswith(f"{base}: has no chat format, expected a chat template")

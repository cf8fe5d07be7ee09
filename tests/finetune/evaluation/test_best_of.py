"""The best of several replies: which is taken, by likelihood or by their answers, and what all of them cost."""

import json
import re
from collections import Counter

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from finetune.chat.graft_format import GraftFormat
from finetune.compare import CompareSettings, main
from finetune.conversations.formats import Conversation, Message
from finetune.evaluation.best_of import Drawn, answer_of, take_best
from finetune.evaluation.draw import Draw
from finetune.export.opened_sides import open_local
from finetune.replies.asked_model import TextReply
from finetune.replies.local_model import LocalModel
from finetune.replies.prompts import PLAIN_PROMPTS, ChatPromptFormat
from scratch_models.decoding.sampling_settings import Sampling
from tests.apps.tiny_models import model_that_says
from tests.finetune.chat_server import Said, serve_chat
from tests.finetune.entry_runs import run_here
from tests.finetune.tiny_models import save_tiny_base
from tests.said_lines import without_progress

ASKED = Conversation((Message("user", "What colour has the river?"), Message("assistant", "")), source="prompt")
WARM = Sampling(temperature=1.3, seed=2)


def _drawn(*texts, nats=()):
    replies = [TextReply(text, stopped=not text.endswith("…"), is_whole=not text.endswith("…")) for text in texts]
    return Drawn(ASKED, replies, dict(enumerate(nats)))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_base(tmp_path_factory.mktemp("base"), initializer_range=0.4)


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(target_modules="all-linear"))
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(folder := tmp_path_factory.mktemp("adapter"))
    return folder


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps({"question": f"{n}+1?", "answer": f"#### {n + 1}"}) for n in range(3)))
    return path


def test_the_likeliest_is_that_of_the_models_own_logits(base):
    model = open_local(str(base)).in_plain_text(PLAIN_PROMPTS["question"])
    taken = take_best({"base": model}, [ASKED], 14, Draw(6, "likelihood", WARM))["base"]
    (drawn,) = taken.drawn
    assert len({reply.ids for reply in drawn.replies}) > 1, "the case should draw different replies"
    (prompt,) = model.asked([ASKED]).prompts
    by_hand = []
    for reply in drawn.replies:
        ids = torch.tensor([[*prompt, *reply.ids]])
        with torch.inference_mode():
            costs = -model.model(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
        by_hand.append(float(costs.gather(1, ids[0, len(prompt) :, None]).mean()))
    assert list(drawn.nats_per_token.values()) == pytest.approx(by_hand, abs=1e-4)
    assert drawn.take("likelihood") == by_hand.index(min(by_hand))
    assert taken.tokens == sum(len(reply.ids) for reply in drawn.replies)


def test_the_first_reply_is_the_one_that_is_drawn_alone_and_each_has_noise_of_its_own(base):
    model = open_local(str(base)).in_plain_text(PLAIN_PROMPTS["question"])
    several = take_best({"base": model}, [ASKED], 14, Draw(4, "likelihood", WARM))["base"].drawn[0].replies
    alone = take_best({"base": model}, [ASKED], 14, Draw(1, "likelihood", WARM))["base"].drawn[0].replies
    assert several[0] == alone[0] and len({reply.ids for reply in several}) == 4


def test_what_a_calculator_gives_is_no_choice_of_the_models(chat_tokenizer):
    chat = ChatPromptFormat(GraftFormat(chat_tokenizer, calculator=True))
    prompt = chat.prompt_ids(ASKED.messages[:-1])
    model = LocalModel(model_that_says(chat_tokenizer, "it is <<48/2=9>>", len(prompt)), chat)
    (reply,) = model.answer([ASKED], 40, Sampling(temperature=0))
    assert "<<48/2=24>>" in reply.text
    assert chat.calculator is not None
    own = chat.calculator.own(reply.ids)
    given = chat_tokenizer.decode([id_ for id_, chosen in zip(reply.ids, own, strict=True) if not chosen])
    assert set(re.findall(r"[^>]+>>|$", given)) <= {"24>>", ""} and "24>>" in given


@pytest.mark.parametrize(
    ("texts", "nats", "taken"),
    [
        (("#### 3", "so #### 4", "x=4 #### 4.0"), (), 1),
        (("#### 1,080", "#### 7", "#### $1080.00", "#### 7"), (4.0, 3.0, 2.0, 3.5), 2),
        (("#### 5", "It goes on…", "It goes on…", "It goes on…"), (), 0),
        (("one…", "two…"), (2.0, 1.0), 1),
        (("Paris.", "`Paris`", "Rome"), (), 0),
    ],
    ids=["most frequent", "tie by likelihood", "cut replies have no vote", "no answer at all", "a whole reply"],
)
def test_the_majority_is_of_what_exact_match_compares(texts, nats, taken):
    assert _drawn(*texts, nats=nats).take("majority") == taken


def test_only_what_decides_is_scored():
    assert _drawn("#### 4", "#### 4", "#### 3").to_score("majority") == []
    assert _drawn("#### 4", "#### 3", "cut…").to_score("majority") == [0, 1]
    assert _drawn("one…", "two…").to_score("majority") == [0, 1]
    assert _drawn("#### 4", "#### 4").to_score("likelihood") == [0, 1]
    assert _drawn("#### 4").to_score("likelihood") == []


@pytest.mark.parametrize("by", ["likelihood", "majority"])
def test_over_data_every_sample_and_what_it_cost_is_written(base, adapter, data, tmp_path, capsys, by):
    settings = {"base": base, "tuned": adapter, "data": data, "best_of": 3, "best_by": by, "temperature": 1.2}
    run_here(main, CompareSettings, **settings, reply_tokens=7, output=tmp_path / "out.json")
    shown, written = capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text())["replies"]
    assert "both: in one batch" in shown
    for label in ("base, question", "base, dialogue", "tuned, bare"):
        which, name = label.split(", ")
        cost, replies = written["cost"][label], [question[which][name] for question in written["questions"]]
        samples = [sample for reply in replies for sample in reply["samples"]]
        assert cost["samples"] == len(samples) == 9 and cost["seconds_per_sample"] == cost["seconds"] / 9 > 0
        assert cost["tokens"] == sum(sample["tokens"] for sample in samples) == pytest.approx(63, abs=30)
        assert cost["without_final_answer"] == sum(sample["final_answer"] is None for sample in samples)
        line = rf"^{label}: best of 3 by {by} at temperature 1\.2: {cost['tokens']} tokens in .* s a sample"
        (said,) = re.findall(line + ".*$", shown, re.MULTILINE)
        for reply in replies:
            assert reply["reply"] == reply["samples"][reply["taken"]]["reply"]
            if by == "likelihood":
                nats = [sample["nats_per_token"] for sample in reply["samples"]]
                assert reply["taken"] == nats.index(min(nats))
        if by == "majority":
            assert said.endswith(f"; {cost['without_final_answer']} of 9 without a final answer")


def test_of_a_prompt_the_best_reply_is_shown_with_its_cost_at_a_temperature_of_0_7(base, adapter, capsys):
    run_here(main, CompareSettings, base=base, tuned=adapter, prompt="1+1?", best_of=3, reply_tokens=7)
    shown = capsys.readouterr().out
    assert len(re.findall(r"^best of 3 by likelihood at temperature 0\.7: \d+ tokens in ", shown, re.MULTILINE)) == 2


def test_a_server_is_asked_with_another_seed_each_time_and_votes(base, data, tmp_path, capsys):
    asked: Counter[str] = Counter()

    def answer(request):
        question = request["messages"][-1]["content"]
        asked[question] += 1
        said = "7" if request["seed"] == 4 else str(int(question[0]) + 1)
        return Said([f"#### {said}"], usage={"completion_tokens": 5, "prompt_tokens": 1, "total_tokens": 6})

    with serve_chat(answer) as server:
        settings = {"base": base, "tuned": server.address, "data": data, "best_of": 3, "best_by": "majority"}
        trial = {"output": tmp_path / "out.json", "reply_tokens": 7, "seed": 4}
        # The first question that a server is asked is a trial.
        answered, server.answer = (
            server.answer,
            lambda request: Said(["2"]) if not asked and request["seed"] == 0 else answered(request),
        )
        run_here(main, CompareSettings, **settings, **trial)
        seeds = [request["seed"] for request in server.requests[1:]]
    assert Counter(seeds) == {4: 3, 5: 3, 6: 3}
    written = json.loads((tmp_path / "out.json").read_text())["replies"]
    assert written["figures"][0]["name"].startswith("bits")
    assert all(question["tuned"]["chat"]["is_right"] for question in written["questions"])
    cost = written["cost"]["tuned, chat"]
    assert (cost["tokens"], cost["tokens_per_sample"], cost["without_final_answer"]) == (45, 5, 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0, "best_of": 2}, "temperature: found 0, at which best_of draws 2 times the same"),
        ({"best_of": 0}, "best_of: found 0, expected at least 1"),
        ({"best_of": 2, "best_by": "length"}, "--best_by is 'length'"),
        ({"best_of": 2, "tuned": "http://127.0.0.1:9/v1"}, "best_by: http://127.0.0.1:9/v1 gives no likelihood"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(base, capsys, settings, said):
    with pytest.raises(SystemExit) as end:
        run_here(main, CompareSettings, **{"base": base, "tuned": base, "prompt": "1+1?", **settings})
    printed = capsys.readouterr().err
    assert (end.value.code, without_progress(printed).count("\n")) == (2, 1) and printed.startswith(said)


def test_multiple_choice_alone_has_no_replies_to_draw(base, tmp_path, capsys):
    path = tmp_path / "quiz.jsonl"
    path.write_text(json.dumps({"question": "1+1?", "choices": ["1", "2"], "answer": 1}))
    with pytest.raises(SystemExit):
        run_here(main, CompareSettings, base=base, tuned=base, data=path, best_of=2)
    assert "multiple-choice questions alone" in capsys.readouterr().err


def test_a_reply_that_was_cut_before_its_answer_has_none():
    assert answer_of(TextReply("4 is half of", False, is_whole=False)) is None
    assert answer_of(TextReply("#### 4 is", False, is_whole=False)) == "4 is"

"""What a text costs two served models is what transformers and peft say, with one copy of the base in memory."""

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from configs import InputError
from finetune.conversations.messages import Message
from finetune.decoding.all_logits import all_logits
from finetune.export.opened_sides import open_local
from finetune.serving.forced_token import Forced, go_on_from
from finetune.serving.model_difference import ModelPair
from finetune.serving.model_pool import ModelPool
from finetune.serving.put_texts import put_text
from finetune.studio.given_texts import pasted_texts
from finetune.studio.scored_texts import score_texts
from tests.finetune.serving.served import known_texts, prompts, save_models

ASKED = [Message("user", "What colour has the apple number 3?")]
TEXT = "It is green. It is a river, and the stone number 12 is blue."


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"), adapters=1)


@pytest.fixture(scope="module")
def pool():
    pool = ModelPool()
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def pair(pool, models):
    return ModelPair(*(pool.open(name).result() for name in models))


@pytest.mark.parametrize("first", [0, 17])
def test_logits_of_all_positions_equal_those_of_transformers_and_peft(pair, models, first, monkeypatch):
    monkeypatch.setattr("finetune.decoding.all_logits.IDS_AT_ONCE", 25)
    monkeypatch.setattr("finetune.decoding.all_logits.POSITIONS_AT_ONCE", 8)
    ids = prompts(1, 320, longest=96, seed=3)[0] * 2
    assert pair.base.side.model is pair.tuned.side.model and pair.tuned.adapter is not None
    for served, name in zip((pair.base, pair.tuned), models, strict=True):
        pieces = []
        for logits in all_logits(served.side.model, served.adapter, ids, first=first):
            assert not torch.is_inference_mode_enabled()
            pieces.append(logits)
        with torch.inference_mode():
            expected = open_local(name).model(torch.tensor([ids])).logits[0, first:]
        assert max(map(len, pieces)) <= 8
        assert (torch.cat(pieces) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_model_without_parts_is_read_by_its_own_forward(monkeypatch):
    monkeypatch.setattr("finetune.decoding.all_logits.IDS_AT_ONCE", 16)
    monkeypatch.setattr("finetune.decoding.all_logits.POSITIONS_AT_ONCE", 8)
    torch.manual_seed(0)
    shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**shape, num_attention_heads=4, max_position_embeddings=96)).eval()
    ids = prompts(1, 64, seed=1)[0] + list(range(40))
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0, 20:]
    found = torch.cat(list(all_logits(model, None, ids, first=20)))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_forced_token_is_gone_on_from_as_the_model_alone_would(pool, pair, models):
    scored = pair.score(ASKED, TEXT, "question")
    place = 4
    forced = scored.difference.tuned[place].likeliest[1].id
    found = go_on_from(pool, models[1], pair, scored, (ASKED, "question"), Forced("tuned", place, forced, 9))
    begun = (*scored.tuned.prompt_ids, *scored.tuned.ids[:place], forced)
    (alone,) = known_texts(models[1], [begun], 9)
    decode = pair.tuned.texts.decode
    assert found.tuned.ids[: place + 1] == (*scored.tuned.ids[:place], forced)
    assert decode(found.tuned.ids[place + 1 :]) == alone
    assert found.base.ids == found.tuned.ids and found.difference.is_paired
    with pytest.raises(InputError, match="place: found 99"):
        go_on_from(pool, models[1], pair, scored, (ASKED, "question"), Forced("tuned", 99, 1, 9))


def test_each_format_puts_the_text_behind_what_was_asked(pair):
    base = pair.base
    plain, raw, alone = (
        put_text(base, ASKED, TEXT, "question"),
        put_text(base, ASKED, TEXT, "raw"),
        put_text(base, [], TEXT, "auto"),
    )
    decode = base.texts.decode
    assert decode((*plain.prompt_ids, *plain.ids)) == f"Question: {ASKED[0].content}\nAnswer: {TEXT}"
    assert decode((*raw.prompt_ids, *raw.ids)) == ASKED[0].content + TEXT
    assert (alone.prompt_ids, decode(alone.ids)) == ((), TEXT)
    assert pair.score([], TEXT, "auto").difference.spans[0].change is None
    with pytest.raises(InputError, match="has no chat format"):
        put_text(base, ASKED, TEXT, "chat")
    with pytest.raises(InputError, match="needs none"):
        put_text(base, [], TEXT, "question")
    with pytest.raises(InputError, match="expected at most 96"):
        pair.score([], TEXT * 20, "raw")


def test_texts_that_are_not_scored_are_counted_by_why(pair):
    lines = f'{TEXT}\n{{"question": "1+1?", "answer": "2"}}\n{TEXT * 20}\nA\nB\nC'
    *_, last = score_texts(pair, pasted_texts(lines), "auto", 4)
    assert last.texts == 3 and sum(last.left_out.values()) == 3
    assert any(why.startswith("longer than") for why in last.left_out)
    assert last.left_out["not read: more than 4"] == 2

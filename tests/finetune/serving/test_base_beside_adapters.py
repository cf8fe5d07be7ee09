"""The side of a base says what the base says alone, whatever kind of adapter stands beside it."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from finetune.conversations.messages import Conversation, Message
from finetune.replies.prompts import PLAIN_PROMPTS
from finetune.serving.asked_together import SideAsked, SideState, ask_together
from finetune.serving.model_pool import ModelPool
from finetune.serving.pooled_model import PooledModel
from scratch_models.decoding.sampling_settings import Sampling
from tests.finetune.tiny_models import questions
from tests.finetune.trained_runs import VARIANTS, base_model, base_tokenizer, save_run, tuned
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

ASKED = 17  # of three kinds of adapter: 51 in all
TOKENS = 12


def stop_at_once(sides: Sequence[SideAsked]) -> None:
    """Asks and stops as soon as something is said."""
    stop = threading.Event()
    for states in ask_together(sides, stop):
        if any(state.reply.pieces for state in states):
            stop.set()


def last_states(sides: Sequence[SideAsked]) -> tuple[SideState, ...]:
    *_, states = ask_together(sides, threading.Event())
    return states


@pytest.mark.parametrize("variant", ["LoRA", *(pytest.param(one, marks=pytest.mark.long) for one in ("DoRA", "PiSSA"))])
def test_the_base_says_what_it_says_alone_from_the_first_question_on(variant, tmp_path):
    tokenizer = base_tokenizer(with_control_tokens=True)
    base_model("gpt2", tokenizer, tied=True).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    save_run(tuned(new_tokens=None, **VARIANTS[variant]), tmp_path / "run")
    pool, plain = ModelPool(), PLAIN_PROMPTS["question"]
    models = [PooledModel(pool=pool, place=str(tmp_path / name), prompt=plain) for name in ("base", "run")]
    alone, words = load_model(str(tmp_path / "base")), load_tokenizer(str(tmp_path / "base"))
    differing = 0
    for question, _ in questions(ASKED):
        conversation = Conversation((Message("user", question), Message("assistant", "")), source="prompt")
        sides = [
            SideAsked(model=one, conversation=conversation, reply_tokens=TOKENS, sampling=Sampling(temperature=0))
            for one in models
        ]
        stop_at_once(sides)
        with ThreadPoolExecutor(2) as tabs:
            (of_base, of_tuned), (again, _) = tabs.map(last_states, [sides, sides])
        prompt = torch.tensor([words.encode(f"Question: {question}\nAnswer:", add_special_tokens=False)])
        greedy = {"do_sample": False, "max_new_tokens": TOKENS, "pad_token_id": 0}
        said = alone.generate(prompt, attention_mask=torch.ones_like(prompt), **greedy)[0, prompt.shape[1] :]
        assert of_base.reply.text == plain.cut(words.decode(said, clean_up_tokenization_spaces=False))
        assert again.reply.text == of_base.reply.text
        differing += of_base.reply.text != of_tuned.reply.text
    pool.close()
    assert differing > ASKED / 2, "the adapter changes what is said"

"""The pane of the base shows what the base says alone, whatever kind of adapter stands beside it."""

import threading

import pytest
import torch

from apps.form import Asked
from apps.pair import Names, Pair
from apps.panes import answer_side_by_side
from finetune.replies.prompts import PLAIN_PROMPTS
from finetune.replies.side_settings import SideSettings
from scratch_models.decoding.sampling_settings import Sampling
from tests.finetune.tiny_models import questions
from tests.finetune.trained_runs import VARIANTS, base_model, base_tokenizer, save_run, tuned
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

ASKED = 10
TOKENS = 12


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "rsLoRA"])
def test_the_base_pane_is_the_base_alone_from_the_first_question_on(variant, tmp_path):
    tokenizer = base_tokenizer(with_control_tokens=True)
    base_model("gpt2", tokenizer, tied=True).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    save_run(tuned(new_tokens=None, **VARIANTS[variant]), tmp_path / "run")
    pair = Pair(Names(str(tmp_path / "base"), str(tmp_path / "run")), SideSettings())
    alone, words = load_model(str(tmp_path / "base")), load_tokenizer(str(tmp_path / "base"))
    plain, differing = PLAIN_PROMPTS["question"], 0
    for question, _ in questions(ASKED):
        asked = Asked(
            prompt=question,
            base_format="question",
            tuned_format="question",
            sampling=Sampling(temperature=0),
            maximum_tokens=TOKENS,
        )
        *_, (of_base, of_tuned) = answer_side_by_side(pair.models(asked), asked, threading.Event())
        prompt = torch.tensor([words.encode(f"Question: {question}\nAnswer:", add_special_tokens=False)])
        greedy = {"do_sample": False, "max_new_tokens": TOKENS, "pad_token_id": 0}
        said = alone.generate(prompt, attention_mask=torch.ones_like(prompt), **greedy)[0, prompt.shape[1] :]
        assert of_base.text == plain.cut(words.decode(said, clean_up_tokenization_spaces=False))
        differing += of_base.text != of_tuned.text
    assert differing > ASKED / 2, "the adapter changes what is said"

"""A tiny base and assistant, also in folders as runs leave them, and the studio that serves them."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from finetune.chat.graft_format import CONTROL_TOKENS
from finetune.export.final_folder import save_assistant
from tests.apps.served import MARKUP, Served, serve
from tests.apps.tiny_models import model_that_says, varied_model
from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, to_hf_tokenizer

TEXTS = ["Question: what does abs return? Answer: the absolute value."] * 2


@pytest.fixture(scope="session")
def plain_tokenizer() -> PreTrainedTokenizerFast:
    bpe = train_bpe(TEXTS, 280, special_tokens=["<|endoftext|>"])
    return to_hf_tokenizer(bpe.ranks, bpe.special_tokens)


@pytest.fixture(scope="session")
def chat_tokenizer(plain_tokenizer) -> PreTrainedTokenizerFast:
    return add_control_tokens(plain_tokenizer, CONTROL_TOKENS)


@pytest.fixture(scope="session")
def folders(tmp_path_factory, plain_tokenizer, chat_tokenizer) -> tuple[Path, Path]:
    """A base that says markup whatever it is asked, and the run of an assistant of random weights."""
    folder = tmp_path_factory.mktemp("models")
    base, run = folder / "tiny-base", folder / "sft-7"
    model_that_says(plain_tokenizer, MARKUP, prompt_tokens=1).save_pretrained(base)
    plain_tokenizer.save_pretrained(base)
    run.mkdir()
    tokenizer = deepcopy(chat_tokenizer)  # saving changes what it ends with
    save_assistant(varied_model(len(tokenizer)), None, tokenizer, run / "final")
    (run / "run.json").write_text(f'{{"settings": {{"base": "{base}"}}}}', encoding="utf-8")
    samples = '{"samples": [{"question": "abs(x)\\n\\nWhat does abs do?"}, {"question": "1+1?"}]}'
    (run / "report.json").write_text(samples, encoding="utf-8")
    return base, run


@pytest.fixture(scope="session")
def served(folders, tmp_path_factory) -> Iterator[Served]:
    """The studio on a free port."""
    yield from serve(folders[1], tmp_path_factory.mktemp("served"))

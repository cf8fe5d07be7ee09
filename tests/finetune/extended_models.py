"""Tiny extended models, tied and untied, and the text that their tokens come from."""

from pathlib import Path

from tests.finetune.tiny_models import questions, save_tiny_base, tiny_llama
from tokenizer_ext.extension.extension import Extended, extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id

NEW_TOKENS = 20
TEXTS = [f"{asked} Zygomorphic! {answer}" for asked, answer in questions(120)]


def save_base(architecture: str, folder: Path) -> Path:
    """A tied GPT-2 or an untied Llama, with the tokenizer of `save_tiny_base`."""
    save_tiny_base(folder, initializer_range=0.2)
    if architecture == "llama":
        (folder / "model.safetensors").unlink()
        tiny_llama(next_token_id(load_tokenizer(str(folder)))).save_pretrained(folder)
    return folder


def extend(base: Path, **settings) -> Extended:
    """The base with tokens of the text."""
    return extend_vocabulary(
        (load_model(str(base)), load_tokenizer(str(base))), corpus=TEXTS, new_tokens=NEW_TOKENS, **settings
    )

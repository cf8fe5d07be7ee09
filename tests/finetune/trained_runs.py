"""Runs as fine-tuning leaves them, with an adapter that training could have made, in a fraction of a second."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.chat.graft_format import CONTROL_TOKENS
from finetune.export.final_folder import save_assistant
from finetune.lora.adapter_shape import Lora
from finetune.lora.trainable_model import TrainableModel, make_trainable_model
from tests.finetune.tiny_models import TINY_MODELS, questions
from tokenizer_ext.bpe.bpe import BytePairEncoding, train_bpe
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, next_token_id, to_hf_tokenizer

DOCUMENTS = [asked for asked, _ in questions(40)]
VARIANTS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "PiSSA": {"init_lora_weights": "pissa"},
}


@cache
def _learned() -> BytePairEncoding:
    return train_bpe(DOCUMENTS[:4], 265, special_tokens=["<|endoftext|>"])


def base_tokenizer(*, with_control_tokens: bool = False) -> PreTrainedTokenizerFast:
    """Bytes and a few merges; bos, eos and pad are one id, as in GPT-2."""
    bpe = _learned()
    tokenizer = to_hf_tokenizer(bpe.ranks, bpe.special_tokens)
    tokenizer.pad_token = tokenizer.eos_token
    return add_control_tokens(tokenizer, CONTROL_TOKENS) if with_control_tokens else tokenizer


def base_model(kind: str, tokenizer: PreTrainedTokenizerFast, *, tied: bool) -> PreTrainedModel:
    """A random GPT-2 or Llama, its head tied to its embedding or not."""
    model = TINY_MODELS[kind](next_token_id(tokenizer))
    model.config.tie_word_embeddings = tied
    head = torch.nn.Parameter(model.get_output_embeddings().weight.detach().clone())
    model.get_output_embeddings().weight = model.get_input_embeddings().weight if tied else head
    return model


def tuned(
    kind: str = "gpt2", *, tied: bool = True, new_tokens: int | None = 9, seed: int = 1, **options: Any
) -> TrainableModel:
    """An adapter, and new rows unless `new_tokens` is None, moved away from their start."""
    tokenizer = base_tokenizer(with_control_tokens=new_tokens is None)
    model = base_model(kind, tokenizer, tied=tied)
    lora = Lora(rank=4, alpha=8.0, dropout=0.0, options=options)
    trainable = make_trainable_model(
        model, tokenizer, DOCUMENTS if new_tokens else [], new_tokens=new_tokens or 0, lora=lora
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return trainable


def save_run(trainable: TrainableModel, run: Path, *, certified: bool = False) -> Path:
    """The `final/` of a run with the subject in it, with the certificate of its extension where that is asked for."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text('{"settings": {"base": "embedded", "data": "embedded"}}')
    save_assistant(
        trainable.model,
        trainable.adapted,
        trainable.tokenizer,
        run / "final",
        trainable.extended if certified else None,
    )
    return run / "final"

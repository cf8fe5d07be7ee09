"""TRL's DPOTrainer on a copy of one of our models: the same adapter, chat format and pairs."""

import copy
import tempfile
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from finetune.chat.graft_format import CHAT_TEMPLATE, END_TOKEN
from finetune.conversations.pairs import Pair
from finetune.lora.trainable_model import TrainableModel


def make_peer(trainable: TrainableModel, pairs: list[Pair], **settings: Any) -> Any:
    """The trainer; its adapter has the weights of ours, and its reference is the adapter switched off."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    assert trainable.adapted is not None
    ours = trainable.adapted.peft_config["default"]
    config = LoraConfig(**{name: getattr(ours, name) for name in ("r", "lora_alpha", "lora_dropout", "fan_in_fan_out")})
    config.target_modules, config.task_type = set(ours.target_modules), "CAUSAL_LM"
    with tempfile.TemporaryDirectory() as folder:
        choices = {"output_dir": folder, "per_device_train_batch_size": len(pairs), "report_to": [], "bf16": False}
        choices |= {"use_cpu": not torch.cuda.is_available(), "gradient_checkpointing": False, "max_length": None}
        trainer = DPOTrainer(
            model=_plain_copy(trainable),
            args=DPOConfig(**{**choices, **settings}),
            train_dataset=Dataset.from_list([_record(pair) for pair in pairs]),
            processing_class=_peer_tokenizer(trainable.tokenizer),
            peft_config=config,
        )
    weights = dict(trainable.adapted.named_parameters())
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])
    return trainer


def peer_batch(trainer: Any) -> dict[str, Tensor]:
    """All pairs as the trainer reads them, in their order."""
    examples = [trainer.train_dataset[number] for number in range(len(trainer.train_dataset))]
    batch: dict[str, Tensor] = trainer.data_collator(examples)
    return batch


def _plain_copy(trainable: TrainableModel) -> Any:
    adapted = copy.deepcopy(trainable.adapted)
    assert adapted is not None
    model = adapted.unload()
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model


def _record(pair: Pair) -> dict[str, Any]:
    parts = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    return {name: [{"role": one.role, "content": one.content} for one in part] for name, part in parts.items()}


def _peer_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template, tokenizer.eos_token = CHAT_TEMPLATE, END_TOKEN
    return tokenizer

"""The gradient of one global batch of 32 ragged conversations, as the training loop adds it up.

    accelerate launch --config_file FILE tests/finetune/gradients_in_processes.py DIR

leaves `<kind>.safetensors` in DIR for every kind of model, and others with conversations packed, or weighted.
"""

import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from finetune.chat.batches import ConversationBatches
from finetune.chat.rendered import RenderedConversation
from finetune.lora.adapter_shape import Lora
from finetune.lora.lora import attach_lora
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.launch.stop_request import StopRequest
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import SUPERVISED_TOKENS
from scratch_models.loop.optimizer_step import Stepper
from tests.finetune.tiny_models import VOCABULARY, tiny_gpt2, tiny_llama
from tokenizer_ext.embeddings.tables import separate_new_rows

CONVERSATIONS = 32
NO_CLIPPING = LoopSettings(max_steps=1, learning_rate=1.0, gradient_clip=1e9)


def _gpt2() -> PreTrainedModel:
    return tiny_gpt2(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)


def _llama() -> PreTrainedModel:
    """With weights of usual size: those of the tiny model are so large that single precision loses a digit more."""
    model = tiny_llama()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.5)
    return model


def _with_lora_and_new_rows(model: PreTrainedModel) -> PreTrainedModel:
    separate_new_rows(model, VOCABULARY - 5, 5)
    attach_lora(model, Lora(rank=4, alpha=8.0, dropout=0.0))
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # starts at zero, where half of the adapter has no gradient
            nn.init.normal_(parameter, std=0.1)
    return model


KINDS: dict[str, Callable[[], PreTrainedModel]] = {
    "gpt2 in full": _gpt2,
    "llama in full": _llama,
    "gpt2 with LoRA": lambda: _with_lora_and_new_rows(_gpt2()),
    "llama with LoRA": lambda: _with_lora_and_new_rows(_llama()),
}


def conversations() -> list[RenderedConversation]:
    """Of 3 to 90 ids, 1 to all of which are learned; in one nothing is."""
    dice = random.Random(0)
    made = []
    for number in range(CONVERSATIONS):
        ids = [dice.randrange(VOCABULARY) for _ in range(dice.choice([3, 5, 9, 17, 40, 90]))]
        learned = 0 if number == 7 else dice.choice([1, 2, len(ids) // 2 + 1, len(ids) - 1])
        made.append(RenderedConversation(ids, [place >= len(ids) - learned for place in range(len(ids))]))
    return made


def weighted_conversations() -> list[RenderedConversation]:
    """The same in which what is learned counts 0, 0.5 or 1, in turns of a few ids; in some all counts 1."""
    made = []
    for number, one in enumerate(conversations()):
        weights = [learned * (number + place // 3) % 3 / 2 for place, learned in enumerate(one.supervised)]
        is_mixed = number % 4 and not set(weights) <= {0.0, 1.0}
        weighted = RenderedConversation(one.input_ids, [weight > 0 for weight in weights], weights)
        made.append(weighted if is_mixed else one)
    return made


def batches(weighted: bool = False, **changes: Any) -> ConversationBatches:
    """The global batch, cut in some way."""
    prompt_format = {"tokens_per_micro_batch": 256, **changes}
    read = weighted_conversations() if weighted else conversations()
    return ConversationBatches(read, CONVERSATIONS, seed=0, **prompt_format)


class Recorder(Optimizer):
    """Keeps the gradients that it is to step by."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__(parameters, {"lr": 1.0})
        self.gradients: list[Tensor] = []

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # without the overloads
        """Takes no step."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        self.gradients = [
            torch.zeros_like(one) if one.grad is None else one.grad.detach().clone() for one in parameters
        ]


def gradient_of(loss_model: nn.Module, read: ConversationBatches, accelerator: Accelerator) -> dict[str, Tensor]:
    """The gradient of the mean over all supervised targets, by name of the parameter."""
    return step_of(loss_model, read, accelerator)[0]


def step_of(
    loss_model: nn.Module, read: ConversationBatches, accelerator: Accelerator
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """That gradient, and what `metrics.jsonl` would say of the step."""
    trained = {name: one for name, one in loss_model.named_parameters() if one.requires_grad}
    recorder = Recorder(trained.values())
    stepper = Stepper(
        prepared=accelerator.prepare_model(loss_model),
        is_sharded=False,
        batches=read,
        optimizers=[recorder],
        settings=NO_CLIPPING,
        accelerator=accelerator,
        unit=SUPERVISED_TOKENS,
        stop=StopRequest(accelerator),
    )
    metrics = stepper.take(0)
    return dict(zip(trained, recorder.gradients, strict=True)), metrics


def main(folder: Path) -> None:
    """Writes what every kind of model finds, in as many processes as were launched."""
    accelerator = make_accelerator("fp32")
    for kind, make in KINDS.items():
        for name, packed in (("", False), (" packed", True)):
            for of_weights, weighted in (("", False), (" weighted", True)):
                read = batches(packed=packed, weighted=weighted)
                gradient, metrics = step_of(SupervisedLoss(make()), read, accelerator)
                if accelerator.is_main_process:
                    facts = {"processes": str(accelerator.num_processes), "loss_nats": str(metrics["loss_nats"])}
                    save_file(gradient, folder / f"{kind}{name}{of_weights}.safetensors", facts)
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))

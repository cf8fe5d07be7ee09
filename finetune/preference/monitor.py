"""What is measured while preferences are learned: rewards of held-out pairs, and replies to two fixed questions.

Shapes: N held-out pairs.
"""

from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from finetune.conversations.messages import Conversation
from finetune.evaluation.scoring import Answered, answer, choose_watched
from finetune.evaluation.tables import print_replies
from finetune.lora.trainable_model import TrainableModel
from finetune.preference.dataset import PreferenceDataset
from finetune.preference.dpo_loss import Objective, PreferenceLoss
from finetune.preference.reference import pair_log_probabilities
from finetune.replies.prompts import ChatPromptFormat, PromptFormat
from scratch_models.corpus.bits_per_byte import bits_per_byte
from scratch_models.loop.sharding import computes_in_step


class PreferenceMonitor:
    """The evaluation that the training loop calls, in every process; the main one also prints the two replies."""

    def __init__(
        self,
        trainable: TrainableModel,
        loss_model: PreferenceLoss,
        dataset: PreferenceDataset,
        answered: Sequence[Answered],
        accelerator: Accelerator,
        reply_tokens: int,
    ) -> None:
        """`answered` holds the replies of the reference; processes that did not ask it have none."""
        self.trainable, self.loss_model, self.dataset = trainable, loss_model, dataset
        self.accelerator, self.reply_tokens = accelerator, reply_tokens
        self.watched = choose_watched(answered)
        self.prompt_format = ChatPromptFormat(dataset.chat)

    def __call__(self, step: int) -> dict[str, Any]:
        """The held-out figures; their loss is the mean over pairs, as in training."""
        figures: dict[str, Any] = self.measure()
        if self.watched and (self.accelerator.is_main_process or computes_in_step(self.loss_model)):
            figures["sample_replies"] = [self._show(before, step) for before in self.watched]
        return figures

    def measure(self) -> dict[str, float]:
        """Loss and rewards of the held-out pairs, and bits per byte of the replies that are preferred."""
        batches = self.dataset.held_out_batches
        found = pair_log_probabilities(self.loss_model, batches, range(len(batches)), self.accelerator)  # (N, 2)
        figures = reward_figures(found, batches.reference, batches.reply_tokens(), self.loss_model.objective)
        nats = -float(found[:, 0].double().sum())
        return {f"held_out_{name}": value for name, value in figures.items()} | {
            "held_out_chosen_likelier": chosen_likelier(found),
            "held_out_bits_per_byte": bits_per_byte(nats, chosen_bytes(self.dataset, self.prompt_format)),
        }

    def _show(self, before: Answered, step: int) -> dict[str, str]:
        now = answer(self.trainable.model, self.prompt_format, [before.conversation], self.reply_tokens)[0].reply
        replies = {"reference": before.reply, "tuned": now}
        return print_replies(step, before.question, replies) if self.accelerator.is_main_process else {}


def reward_figures(found: Tensor, reference: Tensor, tokens: Tensor, objective: Objective) -> dict[str, float]:
    """Mean loss, rewards, their margin, and the share of pairs whose chosen reply has the higher one: of three (N, 2).

    >>> import torch
    >>> found, reference = torch.tensor([[-1.0, -4.0]]), torch.tensor([[-2.0, -2.0]])
    >>> figures = reward_figures(found, reference, torch.tensor([[3, 3]]), Objective(beta=0.5))
    >>> figures["reward_margin"], figures["reward_accuracy"]
    (1.5, 1.0)
    """
    losses = objective.losses(found.T.flatten(), reference.T.flatten(), tokens.T.flatten())  # (N,)
    chosen, rejected = (objective.beta * (found - reference)).unbind(dim=1)  # (N,) twice
    return {
        "loss_nats": float(losses.mean()),
        "reward_accuracy": float((chosen > rejected).float().mean()),
        "reward_margin": float((chosen - rejected).mean()),
        "chosen_reward": float(chosen.mean()),
        "rejected_reward": float(rejected.mean()),
    }


def chosen_likelier(log_probabilities: Tensor) -> float:
    """The share of pairs whose chosen reply is likelier than the rejected one: of (N, 2)."""
    return float((log_probabilities[:, 0] > log_probabilities[:, 1]).float().mean())


def chosen_bytes(dataset: PreferenceDataset, prompt_format: PromptFormat) -> int:
    """UTF-8 bytes of what the assistant says itself in the replies that are preferred."""
    said = (
        Conversation((*pair.prompt, *pair.chosen[: number + 1]), pair.source, tools=pair.tools)
        for pair in dataset.held_out
        for number, message in enumerate(pair.chosen)
        if message.role == "assistant"
    )
    return sum(prompt_format.known_reply(conversation).text_bytes for conversation in said)

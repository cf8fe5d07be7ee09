"""What is measured while an assistant is in training: held-out loss, and replies to two fixed questions."""

from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from finetune.batches import cut_by_tokens, pad, to_row
from finetune.evaluation import TOKENS_PER_MICRO_BATCH, Answered, ChatWay, answer
from finetune.learning_material import LearningMaterial
from finetune.subject import Subject
from finetune.supervised_loss import SupervisedLoss
from scratch_models.corpus import bits_per_byte
from scratch_models.training import held_out_loss
from tokenizer_ext.terminal import printable

WATCHED_QUESTIONS = 2


class HeldOutMonitor:
    """The evaluation that the training loop calls, in every process; the main one also prints the two replies."""

    def __init__(
        self,
        subject: Subject,
        material: LearningMaterial,
        base_answered: Sequence[Answered],
        accelerator: Accelerator,
        reply_tokens: int,
    ) -> None:
        self.loss_model = SupervisedLoss(subject.model).to(accelerator.device)
        self.subject, self.accelerator, self.reply_tokens = subject, accelerator, reply_tokens
        self.watched = choose_watched(base_answered)
        rows = sorted(map(to_row, material.held_out), key=lambda row: len(row[0]))
        self.micro_batches = [pad(group) for group in cut_by_tokens(rows, TOKENS_PER_MICRO_BATCH)]
        self.reply_bytes = material.held_out_reply_bytes
        self.way = ChatWay(subject.tokenizer)

    def __call__(self, step: int) -> dict[str, Any]:
        """The held-out figures; bits per byte count the end of a turn as nats and not as bytes."""
        nats, targets = held_out_loss(self.loss_model, self.micro_batches, self.accelerator)
        figures: dict[str, Any] = {
            "held_out_loss_nats": nats / targets,
            "held_out_bits_per_byte": bits_per_byte(nats, self.reply_bytes),
        }
        if self.accelerator.is_main_process and self.watched:
            figures["sample_replies"] = [self._show(before, step) for before in self.watched]
        return figures

    def _show(self, before: Answered, step: int) -> dict[str, str]:
        now = answer(self.subject.model, self.way, [before.conversation], self.reply_tokens)[0].reply
        lines = {f"step {step}": before.question, "    base": before.reply, "    assistant": now}
        tqdm.write("\n".join(f"{name + ':':<14} {_short(text)}" for name, text in lines.items()))
        return {"question": before.question, "base": before.reply, "assistant": now}


def choose_watched(answered: Sequence[Answered]) -> list[Answered]:
    """Two questions to watch: the first that can be checked and the first that cannot, where there are both."""
    kinds = [one.conversation.answer is None for one in answered]
    first_of_kind = {kinds.index(kind) for kind in set(kinds)}
    order = sorted(range(len(answered)), key=lambda place: (place not in first_of_kind, place))
    return [answered[place] for place in order[:WATCHED_QUESTIONS]]


def _short(text: str, characters: int = 140) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= characters else f"{line[: characters - 1]}…"

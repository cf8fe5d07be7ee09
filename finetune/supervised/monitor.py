"""What is measured while an assistant is in training: held-out loss, and its replies to a few fixed questions."""

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedTokenizerFast

from finetune.chat.dataset import SupervisedDataset
from finetune.chat.packing import join_by_tokens, to_row
from finetune.chat.rendered import RenderedConversation
from finetune.engine.engine import Engine
from finetune.evaluation.scoring import SHOWN_REPLIES, Answered, answer, choose_watched
from finetune.evaluation.tables import print_replies
from finetune.lora.trainable_model import TrainableModel
from finetune.losses.supervised_loss import SupervisedLoss
from finetune.replies.likelihood import TOKENS_PER_MICRO_BATCH
from finetune.replies.prompts import ChatPromptFormat
from scratch_models.corpus.bits_per_byte import bits_per_byte
from scratch_models.loop.sharding import computes_in_step
from scratch_models.loop.training import held_out_loss


class HeldOutMonitor:
    """The evaluation that the training loop calls, in every process; the main one also asks, and prints two replies."""

    def __init__(
        self,
        trainable: TrainableModel,
        dataset: SupervisedDataset,
        base_answered: Sequence[Answered],
        accelerator: Accelerator,
        reply_tokens: int,
        *,
        replies: int = SHOWN_REPLIES,
        engine: Engine | None = None,
    ) -> None:
        self.loss_model = SupervisedLoss(trainable.model, engine)
        if not computes_in_step(self.loss_model):
            self.loss_model.to(accelerator.device)
        self.trainable, self.accelerator, self.reply_tokens = trainable, accelerator, reply_tokens
        self.watched = choose_watched(base_answered, replies)
        rows = sorted(map(to_row, dataset.held_out), key=lambda row: len(row[0]))
        layout = {"packed": dataset.batches.packed, "shares_prefix": dataset.batches.shares_prefixes}
        self.micro_batches = join_by_tokens(rows, TOKENS_PER_MICRO_BATCH, **layout)
        self.prompt_format = ChatPromptFormat(dataset.chat)
        # What a calculator gives costs the model nothing, so it may not count as said either.
        said = partial(said_bytes, end_id=dataset.chat.end_id, tokenizer=trainable.tokenizer)
        self.reply_bytes = sum(map(said, dataset.held_out)) if dataset.chat.calculator else dataset.held_out_reply_bytes

    def __call__(self, step: int) -> dict[str, Any]:
        """What the line of `metrics.jsonl` says of the held-out conversations after a step."""
        asks = self.accelerator.is_main_process or computes_in_step(self.loss_model)
        return self.held_out() | (self.ask(step) if asks and self.watched else {})

    def held_out(self) -> dict[str, float]:
        """Loss and bits per byte; bits per byte count the end of a turn as nats and not as bytes."""
        nats, targets = held_out_loss(self.loss_model, self.micro_batches, self.accelerator)
        return {
            "held_out_loss_nats": nats / targets,
            "held_out_bits_per_byte": bits_per_byte(nats, self.reply_bytes),
        }

    def ask(self, step: int) -> dict[str, Any]:
        """The share of replies that the model ends itself, and two of them, which are printed too."""
        asked = [before.conversation for before in self.watched]
        answered = answer(self.trainable.model, self.prompt_format, asked, self.reply_tokens)
        return show_watched(self.watched, answered, step) if self.accelerator.is_main_process else {}


def show_watched(base_answered: Sequence[Answered], answered: Sequence[Answered], step: int) -> dict[str, Any]:
    """The share of replies that ended by themselves, and some of them beside the base's, which are printed too."""
    shown = list(zip(base_answered, answered, strict=True))[:SHOWN_REPLIES]
    return {
        "stop_rate": sum(reply.stopped for reply in answered) / len(answered),
        "sample_replies": [
            print_replies(step, before.question, {"base": before.reply, "assistant": now.reply})
            for before, now in shown
        ],
    }


def said_bytes(rendered: RenderedConversation, *, end_id: int, tokenizer: PreTrainedTokenizerFast) -> int:
    """UTF-8 bytes of what is learned of a conversation, without the ends of turns."""
    learned = [
        [id_ for id_, _ in stretch if id_ != end_id]
        for is_learned, stretch in groupby(
            zip(rendered.input_ids, rendered.supervised, strict=True), key=lambda pair: pair[1]
        )
        if is_learned
    ]
    texts = (
        str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)) for ids in learned
    )
    return sum(len(text.encode()) for text in texts)

"""The rendered conversations of a run, with what was left out counted."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from finetune.batches import ConversationBatches, keep_fitting
from finetune.chat import ChatFormat, RenderedConversation, mask_as_text
from finetune.conversation_sets import ConversationSets
from finetune.conversations import Conversation


@dataclass(frozen=True)
class LearningMaterial:
    """What a run reads."""

    batches: ConversationBatches
    training: list[RenderedConversation]
    held_out: list[RenderedConversation]
    held_out_reply_bytes: int
    """UTF-8 bytes of what the assistant says in the held-out conversations."""
    too_long: int
    """Training conversations left out because they are longer than the limit."""

    def describe(self) -> str:
        """One line of counts."""
        tokens = sum(len(one.input_ids) for one in self.training)
        supervised = sum(sum(one.supervised) for one in self.training)
        return (
            f"{len(self.training)} conversations to learn from ({self.too_long} left out as too long), {len(self.held_out)} held "
            f"out for evaluations; an epoch is {self.batches.steps_per_epoch} steps and {tokens:,} tokens, "
            f"{supervised / tokens:.0%} of them supervised"
        )


def prepare_material(
    tokenizer: PreTrainedTokenizerFast,
    sets: ConversationSets,
    *,
    maximum_tokens: int,
    held_out_conversations: int,
    conversations_per_step: int,
    tokens_per_micro_batch: int,
    seed: int,
) -> LearningMaterial:
    """Renders the conversations; those longer than the limit are left out, never cut.

    Raises:
        InputError: no conversation fits.

    """
    chat = ChatFormat(tokenizer)
    training = keep_fitting(chat.render_all(sets.training), maximum_tokens)
    pairs = list(zip(sets.held_out, chat.render_all(sets.held_out), strict=True))
    fitting = [pair for pair in pairs if len(pair[1].input_ids) <= maximum_tokens][:held_out_conversations]
    return LearningMaterial(
        batches=ConversationBatches(training.kept, conversations_per_step, tokens_per_micro_batch, seed),
        training=training.kept,
        held_out=[rendered for _, rendered in fitting],
        held_out_reply_bytes=reply_bytes([conversation for conversation, _ in fitting]),
        too_long=training.too_long,
    )


def reply_bytes(conversations: Sequence[Conversation]) -> int:
    """UTF-8 bytes of all assistant messages."""
    return sum(
        len(message.content.encode())
        for conversation in conversations
        for message in conversation.messages
        if message.role == "assistant"
    )


def first_example(material: LearningMaterial, tokenizer: PreTrainedTokenizerFast, *, colour: bool) -> str:
    """The first conversation with what is learned made visible."""
    return mask_as_text(material.training[0], lambda ids: str(tokenizer.decode(ids)), colour=colour)

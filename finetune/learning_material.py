"""The rendered conversations of a run, with what was left out counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from configs import InputError
from finetune.batches import ConversationBatches, keep_fitting
from finetune.chat import ChatFormat, RenderedConversation, mask_as_text
from finetune.conversation_sets import ConversationSets, spread
from finetune.conversations import Conversation


@dataclass(frozen=True)
class LearningMaterial:
    """What a run reads."""

    batches: ConversationBatches
    training: list[RenderedConversation]
    held_out: list[RenderedConversation]
    """What evaluations read, spread evenly over all that is held out."""
    held_out_reply_bytes: int
    """UTF-8 bytes of what the assistant says in them."""
    left_out: Mapping[str, int]
    """What is neither learned from nor held out -> how often."""

    def describe(self) -> str:
        """What is read and what is left out, counted."""
        tokens = sum(len(one.input_ids) for one in self.training)
        supervised = sum(sum(one.supervised) for one in self.training)
        left_out = "; ".join(f"{count} {what}" for what, count in self.left_out.items() if count) or "nothing"
        return (
            f"{len(self.training):,} conversations to learn from; an epoch is {self.batches.steps_per_epoch:,} steps "
            f"and {tokens:,} tokens, {supervised / tokens:.0%} of them supervised\n"
            f"{len(self.held_out):,} held-out conversations for evaluations; left out: {left_out}"
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
        InputError: no conversation fits, of those to learn from or of those held out.

    """
    chat = ChatFormat(tokenizer)
    training = keep_fitting(chat.render_all(sets.training), maximum_tokens)
    pairs = list(zip(sets.held_out, chat.render_all(sets.held_out), strict=True))
    fitting = [pair for pair in pairs if len(pair[1].input_ids) <= maximum_tokens]
    if not fitting:
        raise InputError(
            f"maximum_tokens {maximum_tokens}: none of {len(pairs)} held-out conversations fits: raise the limit or "
            "give shorter conversations"
        )
    read = spread(fitting, held_out_conversations)
    return LearningMaterial(
        batches=ConversationBatches(training.kept, conversations_per_step, tokens_per_micro_batch, seed),
        training=training.kept,
        held_out=[rendered for _, rendered in read],
        held_out_reply_bytes=reply_bytes([conversation for conversation, _ in read]),
        left_out={
            **sets.left_out,
            f"conversations of more than {maximum_tokens} tokens": training.too_long,
            f"held-out conversations of more than {maximum_tokens} tokens": len(pairs) - len(fitting),
        },
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

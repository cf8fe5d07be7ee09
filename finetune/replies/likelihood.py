"""What known replies cost a model: the nats of each, counted where the model speaks for itself.

Shapes: B rows, T tokens, S scored positions of a micro-batch, C positions of a chunk, D width, V vocabulary.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from finetune.chat.packing import Row, cut_by_tokens, pad
from finetune.conversations.formats import Conversation
from finetune.losses.head import check_logits_are_the_heads
from finetune.losses.token_losses import token_losses
from finetune.replies.prompts import KnownReply, PromptFormat
from scratch_models.loop.micro_batches import IGNORED_TARGET
from tokenizer_ext.pages.progress import progress

TOKENS_PER_MICRO_BATCH = 8192
POSITIONS_PER_CHUNK = 512


def reply_costs(
    model: PreTrainedModel, prompt_format: PromptFormat, conversations: Sequence[Conversation]
) -> tuple[list[float], list[int]]:
    """Nats and bytes of each conversation's last message, after all that came before it."""
    replies = [prompt_format.known_reply(conversation) for conversation in conversations]
    rows = [
        reply_row(prompt_format, conversation, reply)
        for conversation, reply in zip(conversations, replies, strict=True)
    ]
    return row_nats(model, rows), [reply.text_bytes for reply in replies]


def reply_row(prompt_format: PromptFormat, conversation: Conversation, reply: KnownReply) -> Row:
    """Ids and targets that score what a model itself says of the last message, and nothing of the prompt."""
    prompt = prompt_format.prompt_ids(conversation.messages[:-1], conversation.tools)
    counted = [id_ if own else IGNORED_TARGET for id_, own in zip(reply.ids, reply.own, strict=True)]
    return [*prompt, *reply.ids][:-1], [IGNORED_TARGET] * (len(prompt) - 1) + counted


@torch.no_grad()
def row_nats(model: PreTrainedModel, rows: Sequence[Row]) -> list[float]:
    """The nats of each row's targets, in the order of the rows; logits exist for a few positions at a time.

    Raises:
        InputError: the model does more between its last hidden state and its logits than the head.
    """
    was_training = model.training
    check_logits_are_the_heads(model)
    model.eval()
    order = sorted(range(len(rows)), key=lambda number: len(rows[number][0]))
    nats = [0.0] * len(rows)
    done = 0
    with progress("known replies", len(rows), "replies") as bar:
        for group in cut_by_tokens([rows[number] for number in order], TOKENS_PER_MICRO_BATCH):
            numbers = order[done : done + len(group)]
            for number, cost in zip(numbers, _micro_batch_nats(model, group), strict=True):
                nats[number] = cost
            done += len(group)
            bar.update(len(group))
    model.train(was_training)
    return nats


def _micro_batch_nats(model: PreTrainedModel, group: Sequence[Row]) -> list[float]:
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in pad(list(group)).items()}
    hidden = model.base_model(input_ids=batch["input_ids"], use_cache=False).last_hidden_state  # (B, T, D)
    scored = batch["targets"] != IGNORED_TARGET  # (B, T)
    row_of_position = scored.nonzero()[:, 0].cpu()  # (S)
    head, targets = model.get_output_embeddings(), batch["targets"][scored]
    nats = token_losses(head, hidden[scored], targets, POSITIONS_PER_CHUNK).cpu().double()  # (S)
    return torch.zeros(len(group), dtype=torch.float64).index_add_(0, row_of_position, nats).tolist()  # (B)

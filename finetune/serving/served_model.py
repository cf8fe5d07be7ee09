"""A model that is served: opened as a side of a comparison is, and put into the batch of its base.

An adapter needs no more of the model that it was opened with than its own matrices, where that model without them is,
weight by weight and bit for bit, one that is in memory already.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import psutil
import torch
from transformers import PreTrainedModel

from configs import InputError
from finetune.chat.chat_format import ChatFormat
from finetune.conversations.messages import Message
from finetune.decoding.decoders import ReadModel, read_model
from finetune.decoding.growing_batches import BatchByOwnForward, BatchByParts
from finetune.decoding.linear_layers import Adapter
from finetune.export.opened_sides import open_local
from finetune.export.saved_model import find_model
from finetune.lora.base_under_adapter import is_same_model, strip_lora
from finetune.replies.calculator_decoding import ReplyCalculator
from finetune.replies.local_side import LocalSide
from finetune.replies.prompts import PLAIN_PROMPTS, ChatPromptFormat
from finetune.serving.reply_stream import ReplyStream
from finetune.serving.reply_text import TokenTexts
from finetune.serving.request_queue import BatchLimits
from finetune.serving.running_batch import RunningBatch
from scratch_models.decoding.block_decoder import DecoderParts
from scratch_models.loop.run_folder import find_recorded
from tokenizer_ext.huggingface.hf_model import positions_of

SHARE_OF_FREE_MEMORY = 0.25
"""Of what is free, keys and values of a batch may take so much."""
SAME_LOGITS = 1e-3
"""How far an adapter's logits over a shared base may lie from those over its own, as a share of the largest."""
PROBE_IDS = 24


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as ids, and the ids that end its reply."""

    ids: tuple[int, ...]
    stop_ids: tuple[int, ...]
    calculator: ReplyCalculator | None = None


@dataclass(eq=False)
class ServedModel:
    """What a name stands for, in memory."""

    side: LocalSide
    """The side; of an adapter over a shared base its `model` is the base."""
    batch: RunningBatch
    adapter: Adapter | None
    note: str = ""
    """Why it decodes through its own forward, one batch after another; empty where it does not."""
    calculator: bool = False
    """Whether it was trained with a calculator, which then completes its arithmetic in a chat."""
    streams: list[ReplyStream] = field(default_factory=list)
    """Replies that may still be under way."""

    def __post_init__(self) -> None:
        self.texts = TokenTexts(self.side.tokenizer)

    @property
    def proof(self) -> str:
        """What exactly answers: the hash of its weights, the base that an adapter of it lies over, its chat format."""
        base = "its base" if self.batch.name == self.side.name else f"{self.batch.name}, which others share"
        over = f"adapter on, over {base}" if self.adapter else "its own forward" if self.note else "no adapter"
        return f"{self.side.identity} · {over} · {self.side.chat_format}"

    @cached_property
    def in_chat(self) -> ChatPromptFormat:
        """How it is asked in a chat.

        Raises:
            InputError: it has no chat format.

        """
        prompt_format = self.side.in_chat(calculator=self.calculator).prompt_format
        assert isinstance(prompt_format, ChatPromptFormat)
        return prompt_format

    @property
    def chat_format(self) -> ChatFormat:
        """The format in which it is asked in a chat.

        Raises:
            InputError: it has none.

        """
        return self.in_chat.chat

    def encode_chat(self, messages: Sequence[Message], tools: str | None = None) -> EncodedPrompt:
        """The messages up to where the assistant speaks.

        Raises:
            InputError: it has no chat format, or its template refuses these messages.

        """
        asked = self.in_chat
        return EncodedPrompt(tuple(asked.prompt_ids(messages, tools)), asked.stop_ids, asked.calculator)

    def encode_text(self, text: str) -> EncodedPrompt:
        """Text to go on with: control tokens in it are letters and signs."""
        prompt_format = self.side.in_plain_text(PLAIN_PROMPTS["bare"]).prompt_format
        return EncodedPrompt(tuple(prompt_format.prompt_ids([Message("user", text)])), prompt_format.stop_ids)


def open_served(name: str, batches: Iterable[RunningBatch], limits: BatchLimits) -> ServedModel:
    """Opens a model and puts it into the batch of its base, or into a new one.

    Raises:
        InputError: there is no such model.

    """
    side, calculator = open_local(name), find_recorded(find_model(name), "calculator") is True
    read = read_model(side.model, lay_out=True)
    if read.parts is None:
        note = f"decodes through its own forward, one batch after another: {read.why_not}"
        whole = replace(limits, prompt_ids_at_once=limits.cached_ids)  # nobody joins later
        batch = RunningBatch(name, side.model, lambda: BatchByOwnForward(side.model), whole)
        return ServedModel(side, batch, None, note, calculator)
    adapter = read.own if any(read.own.products) else None
    alone = _probe(read, side.model, adapter)
    # Its own generation config says where its replies end, also over a base that has another.
    side = replace(side, generation_config=side.model.generation_config)
    strip_lora(side.model)
    base = next((batch for batch in batches if is_same_model(batch.model, side.model)), None)
    if base is None:
        fitting = _fitting(limits, read.parts)
        read = read_model(side.model, lay_out=True)
        base = RunningBatch(name, side.model, lambda: BatchByParts(read), fitting)
    over_base = read_model(base.model, lay_out=True)
    difference = float((_probe(over_base, base.model, adapter) - alone).abs().max())
    if not difference <= SAME_LOGITS * float(alone.abs().max()):
        raise InputError(f"{name}: its logits over the base in memory differ by {difference:.1e}: merge it first")
    return ServedModel(replace(side, model=base.model), base, adapter, calculator=calculator)


@torch.inference_mode()
def _probe(read: ReadModel, model: PreTrainedModel, adapter: Adapter | None) -> torch.Tensor:
    """Logits after a few ids."""
    rows, length = model.get_input_embeddings().num_embeddings, min(PROBE_IDS, positions_of(model) or PROBE_IDS)
    logits = BatchByParts(read).begin([[id_ % rows for id_ in range(1, 1 + length)]], [adapter]).go_on(length)
    assert logits is not None, "all ids were read"
    return logits


def _fitting(limits: BatchLimits, parts: DecoderParts) -> BatchLimits:
    """Limits whose keys and values take no more than a share of the memory that is free."""
    id_bytes = 2 * len(parts.blocks) * parts.key_value_heads * parts.head_width * parts.dtype.itemsize
    free = psutil.virtual_memory().available
    if parts.device.type == "cuda":
        free = torch.cuda.mem_get_info(parts.device)[0]
    return replace(limits, cached_ids=min(limits.cached_ids, int(SHARE_OF_FREE_MEMORY * free) // id_bytes))

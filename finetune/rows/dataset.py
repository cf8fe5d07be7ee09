"""What new rows learn from: text in blocks, or conversations; and what is held out of either.

Bits per byte count the bytes of supervised targets. Added tokens, as the end of a text or of a turn, cost nats and
count as no bytes, the same in every vocabulary.

Shapes: B rows of a micro-batch, T tokens of a row, N ids of a corpus.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from finetune.chat.batches import ConversationBatches
from finetune.chat.dataset import first_example, prepare_dataset
from finetune.chat.graft_format import GraftFormat
from finetune.chat.packing import cut_by_tokens, pad, to_row
from finetune.chat.rendered import RenderedConversation, RenderedSet
from finetune.conversations.splits import ConversationSplits
from finetune.rows.base_reading import read_ids
from finetune.rows.text_ids import encode_texts
from scratch_models.corpus.blocks import RandomBlocks, held_out_blocks, split_by_position
from scratch_models.corpus.embedded_corpus import embedded_corpus
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.corpus.text_files import read_text
from scratch_models.loop.micro_batches import IGNORED_TARGET, Batches, MicroBatch
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes
from tokenizer_ext.pages.progress import shown

HELD_OUT_TOKENS_PER_MICRO_BATCH = 1024
"""As fast as more at once on a CPU, and so that it is soon known how long an evaluation takes."""
PROMPTS, PROMPT_TOKENS = 32, 32


@dataclass(frozen=True)
class HeldOut:
    """Text that nothing learns from."""

    micro_batches: list[MicroBatch]
    text_bytes: int
    """UTF-8 bytes of the supervised targets."""
    read: str = ""
    """What of all that is held out evaluations read."""


class MakeBatches(Protocol):
    """How batches are made."""

    def __call__(self, seed: int, packed: bool = False) -> Batches:
        """The micro-batches of every step, by seed; conversations `packed`, where they are conversations."""


@dataclass(frozen=True)
class RowDataset:
    """What a run reads."""

    make_batches: MakeBatches
    """The micro-batches of every step."""
    ids: Tensor
    """(N) ids of one epoch."""
    supervised: int
    """How many of them are learned."""
    epochs_per_step: float
    held_out: HeldOut
    prompts: list[list[int]]
    """Starts of held-out texts, or held-out questions."""
    end_id: int | None
    """The id that ends a text or a reply."""
    first_example: str
    """The first block or conversation, with what is learned of it."""
    sha256: str
    read: str = ""
    """What was read of conversations, what was left out, and what is odd in them."""

    def describe(self) -> str:
        """How much is read, and what is left out."""
        share = self.supervised / len(self.ids)
        return f"{self.read}\n" * bool(self.read) + (
            f"an epoch is {len(self.ids):,} tokens, {share:.0%} of them supervised; "
            f"evaluations read {self.held_out.read}{self.held_out.text_bytes:,} bytes of held-out text"
        )


@dataclass(frozen=True)
class Texts:
    """Documents to learn from and documents held out."""

    training: list[str]
    held_out: list[str]
    sha256: str


def read_texts(path: str | None) -> Texts:
    """The first nine tenths of a text file and the rest; without a path, torch's documentation as it was split.

    Raises:
        InputError: the file is missing, a folder, empty, not UTF-8, or too short to hold a tenth out.

    """
    if path is None:
        corpus = embedded_corpus()
        parts = [[document.text for document in some] for some in (corpus.domain, corpus.domain_held_out)]
        return Texts(parts[0], parts[1], corpus.sha256("domain"))
    text = read_text(path)
    training, held_out = split_by_position(text)
    return Texts([training], [held_out], hashlib.sha256(text.encode()).hexdigest())


def text_dataset(
    texts: Texts,
    tokenizer: PreTrainedTokenizerFast,
    *,
    block_size: int,
    blocks_per_batch: int,
    evaluation_blocks: int,
) -> RowDataset:
    """Blocks of the texts; of those held out, so many from all over.

    Raises:
        InputError: they are shorter than one block.

    """
    training, held_out = (encode_texts(documents, tokenizer) for documents in (texts.training, texts.held_out))
    blocks = _spread_blocks(held_out, block_size, evaluation_blocks)
    in_all = -(-(len(held_out) - 1) // block_size)
    RandomBlocks(training, block_size, blocks_per_batch, seed=0)  # refuses a text of less than a block
    return RowDataset(
        # Blocks have one length: there is nothing to pack.
        make_batches=lambda seed, packed=False: RandomBlocks(training, block_size, blocks_per_batch, seed),
        ids=training,
        supervised=len(training),
        epochs_per_step=block_size * blocks_per_batch / len(training),
        held_out=HeldOut(
            blocks, count_target_bytes(blocks, tokenizer), f"{min(evaluation_blocks, in_all):,} of {in_all:,} blocks, "
        ),
        prompts=_text_prompts(blocks),
        end_id=tokenizer.eos_token_id,
        first_example=f"first block, all of it learned: {tokenizer.decode(training[:block_size].tolist())!r}",
        sha256=texts.sha256,
    )


@shown("rendering the conversations")
def conversation_dataset(
    splits: ConversationSplits,
    tokenizer: PreTrainedTokenizerFast,
    *,
    maximum_tokens: int,
    conversations_per_step: int,
    tokens_per_micro_batch: int,
    evaluation_conversations: int,
) -> RowDataset:
    """Conversations as `finetune/sft.py` reads them.

    Raises:
        InputError: the tokenizer lacks the chat's control tokens, or no conversation fits.

    """
    chat = GraftFormat(tokenizer)
    read = prepare_dataset(
        chat,
        splits,
        maximum_tokens=maximum_tokens,
        held_out_conversations=evaluation_conversations,
        conversations_per_step=conversations_per_step,
        tokens_per_micro_batch=tokens_per_micro_batch,
        seed=0,
    )
    held_out = _padded(read.held_out)
    return RowDataset(
        make_batches=lambda seed, packed=False: ConversationBatches(
            read.training, conversations_per_step, tokens_per_micro_batch, seed, packed
        ),
        ids=torch.tensor([id_ for one in read.training for id_ in one.input_ids]),
        supervised=sum(sum(one.supervised) for one in read.training),
        epochs_per_step=1 / read.batches.steps_per_epoch,
        held_out=HeldOut(held_out, count_target_bytes(held_out, tokenizer)),
        prompts=[_question(one) for one in evenly_spaced(read.held_out, PROMPTS)],
        end_id=chat.end_id,
        first_example=f"first conversation: {first_example(read, colour=False)}",
        sha256=splits.sha256(),
        read=read.describe(),
    )


def count_target_bytes(micro_batches: Sequence[MicroBatch], tokenizer: PreTrainedTokenizerFast) -> int:
    """UTF-8 bytes of all supervised targets."""
    added = set(tokenizer.get_added_vocab().values())
    lengths = {id_: 0 if id_ in added else len(bytes_) for id_, bytes_ in token_bytes(tokenizer).items()}
    table = torch.zeros(max(lengths) + 1, dtype=torch.long)
    table[torch.tensor(list(lengths))] = torch.tensor(list(lengths.values()))
    targets = [micro_batch["targets"] for micro_batch in micro_batches]
    return sum(int(table[some[some != IGNORED_TARGET]].sum()) for some in targets)


def _spread_blocks(ids: Tensor, block_size: int, number: int) -> list[MicroBatch]:
    (every_block,) = held_out_blocks(ids, block_size, blocks_per_batch=max(len(ids), 1))
    chosen = torch.tensor(evenly_spaced(range(len(every_block["input_ids"])), number))
    rows_in_memory = max(1, HELD_OUT_TOKENS_PER_MICRO_BATCH // block_size)
    return [{name: of_all[some] for name, of_all in every_block.items()} for some in chosen.split(rows_in_memory)]


def _text_prompts(blocks: Sequence[MicroBatch]) -> list[list[int]]:
    rows = [
        read_ids(ids, targets)
        for micro_batch in blocks
        for ids, targets in zip(micro_batch["input_ids"].tolist(), micro_batch["targets"].tolist(), strict=True)
    ]
    return [ids[:PROMPT_TOKENS] for ids in evenly_spaced(rows, PROMPTS)]


def _padded(conversations: RenderedSet) -> list[MicroBatch]:
    rows = sorted(map(to_row, conversations), key=lambda row: len(row[0]))
    return [pad(group) for group in cut_by_tokens(rows, HELD_OUT_TOKENS_PER_MICRO_BATCH)]


def _question(rendered: RenderedConversation) -> list[int]:
    """All that is said before the first reply."""
    return rendered.input_ids[: rendered.supervised.index(True)]

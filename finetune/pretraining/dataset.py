"""What a run of continued pretraining reads: blocks to learn from, and of each text held-out blocks to measure on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerFast

from configs import InputError
from finetune.chat.packing import Row
from finetune.pretraining.document_ends import DocumentEnds
from finetune.pretraining.text_blocks import Layout, TextBlocks, spread_blocks
from finetune.pretraining.text_sources import NamedTexts
from finetune.pretraining.token_files import EncodedText
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.loop.micro_batches import IGNORED_TARGET, MicroBatch
from tokenizer_ext.pages.progress import shown

PROMPT_TOKENS = 32
SAMPLES_OF_EACH = 2


@dataclass(frozen=True)
class Sample:
    """The start of a held-out document, which a model is to continue."""

    text: str
    """The name of the text that it is from."""
    prompt: list[int]
    expected: list[int]
    """How the document goes on."""


@dataclass(frozen=True)
class Watched:
    """What is measured of a text."""

    name: str
    blocks: list[list[Row]]
    """The documents of each held-out block that evaluations read."""
    text_bytes: int
    """UTF-8 bytes of their targets; ends of documents count as none."""
    all_blocks: int
    """How many blocks are held out in all."""
    layout: Layout
    block_size: int

    @property
    def micro_batches(self) -> list[MicroBatch]:
        """The blocks as an evaluation reads them."""
        return self.layout.join(self.blocks, self.block_size)

    def describe(self) -> str:
        """How much of it is read."""
        of_all = f" of {self.all_blocks:,}" if self.all_blocks > len(self.blocks) else ""
        return f"{len(self.blocks):,}{of_all} held-out blocks ({self.text_bytes:,} bytes) of {self.name}"


@dataclass(frozen=True)
class PretrainDataset:
    """What a run reads."""

    texts: list[EncodedText]
    """Those that are learned from first."""
    named: NamedTexts
    batches: TextBlocks
    watched: list[Watched]
    samples: list[Sample]
    ends: DocumentEnds

    @property
    def sha256(self) -> str:
        """Of all texts."""
        return hashlib.sha256("".join(text.facts.sha256 for text in self.texts).encode()).hexdigest()

    def laid_out(self, *, packed: bool, tokens_per_micro_batch: int) -> "PretrainDataset":
        """The same in other micro-batches."""
        layout = Layout(packed, tokens_per_micro_batch)
        watched = [replace(one, layout=layout) for one in self.watched]
        return replace(self, batches=self.batches.laid_out(layout), watched=watched)

    def describe(self) -> str:
        """What is learned from, what is left out, what is read of each, and what evaluations read."""
        epochs = self.batches.epochs_of(self.batches.steps_per_epoch)
        lines = [
            f"{text.name} ({share:.1%} of the tokens): {_documents(text)}, {text.facts.tokens:,} tokens, read "
            f"{epochs[text.name]:.3g} times an epoch{_left_out(text)}"
            for text, share in zip(self.batches.texts, self.named.shares, strict=True)
        ]
        return "\n".join([*lines, f"evaluations read {'; '.join(one.describe() for one in self.watched)}"])

    def first_block(self, tokenizer: PreTrainedTokenizerFast) -> str:
        """The first block that is learned from, a line for each document in it."""
        rows = self.batches.rows_at(*self.batches.order.starts(0, 1)[0], self.batches.order.block_size)
        return "\n".join(f"  {tokenizer.decode([*row[0], *_last_target(row)])!r}" for row in rows)


@shown("choosing what evaluations read")
def prepare_dataset(
    texts: list[EncodedText],
    named: NamedTexts,
    ends: DocumentEnds,
    *,
    block_size: int,
    blocks_per_batch: int,
    evaluation_blocks: int,
    seed: int,
) -> PretrainDataset:
    """The blocks of the texts, which are encoded already.

    Raises:
        InputError: a text to learn from is shorter than a block, or held-out text has nothing to predict.

    """
    learned = texts[: len(named.learned)]
    sizes = {"block_size": block_size, "blocks_per_batch": blocks_per_batch, "seed": seed}
    batches = TextBlocks.of(learned, named.shares, ends, **sizes)
    watched = []
    for text in texts:
        blocks, text_bytes = spread_blocks(text, ends, block_size, evaluation_blocks)
        if not text_bytes:
            raise InputError(f"{text.name}: its held-out part holds nothing to predict, expected more text")
        in_all = -(-(len(text.held_out) - 1) // block_size)
        watched.append(Watched(text.name, blocks, text_bytes, in_all, batches.layout, block_size))
    samples = [sample for one in watched for sample in _samples(one, ends)]
    return PretrainDataset(texts, named, batches, watched, samples, ends)


def _samples(watched: Watched, ends: DocumentEnds) -> list[Sample]:
    """The starts of some documents, or where hardly any starts there, of blocks."""
    rows = [row for block in watched.blocks for row in block if len(row[0]) >= 2]  # one to read, one to expect
    starting = [row for row in rows if row[0][0] == ends.start_id and len(row[0]) > PROMPT_TOKENS]
    found = []
    for ids, *_ in evenly_spaced(starting or rows, SAMPLES_OF_EACH):
        cut = min(PROMPT_TOKENS, len(ids) // 2)
        found.append(Sample(watched.name, ids[:cut], ids[cut:]))
    return found


def _documents(text: EncodedText) -> str:
    if text.facts.one_text:
        return "a text file is one document"
    return f"{text.facts.documents:,} documents, and {text.facts.held_out_documents:,} held out"


def _left_out(text: EncodedText) -> str:
    what = "paragraphs" if text.facts.one_text else "documents"
    found = f"; {text.facts.left_out:,} {what} left out, since they nearly equal held-out text"
    return found * bool(text.facts.left_out)


def _last_target(row: Row) -> Sequence[int]:
    return [target for target in row[1][-1:] if target != IGNORED_TARGET]

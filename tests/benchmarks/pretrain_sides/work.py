"""The work of `pretrain_speed`, the same for both sides: model, adapter, documents, tokens of a step.

SmolLM2-135M-Instruct reads documents of torch's documentation in packed blocks of 512 tokens, two a step, with LoRA of
rank 16 on all linear layers.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from scratch_models.corpus.embedded_corpus import embedded_corpus

BLOCK_SIZE, BLOCKS_PER_STEP, RANK, LEARNING_RATE = 512, 2, 16, 1e-3


@dataclass(frozen=True)
class Work:
    """What one side is asked to do, as it stands on its command line."""

    base: str
    """The folder of the model."""
    documents: str
    """A .jsonl file of them."""
    precision: str
    steps: int

    @classmethod
    def from_arguments(cls) -> "Work":
        """The work named by `sys.argv`."""
        base, documents, precision, steps = sys.argv[1:]
        return cls(base, documents, precision, int(steps))

    def arguments(self) -> list[str]:
        """The words that `from_arguments` reads."""
        return [self.base, self.documents, self.precision, str(self.steps)]


def write_documents(folder: Path) -> Path:
    """Torch's documentation, a document a line."""
    path = folder / "documents.jsonl"
    lines = [json.dumps({"text": document.text}) + "\n" for document in embedded_corpus().domain]
    path.write_text("".join(lines), encoding="utf-8")
    return path

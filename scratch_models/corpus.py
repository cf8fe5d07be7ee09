"""The text that a scratch model learns from: read, turned into ids, split, and cut into blocks.

Shapes: B blocks of a micro-batch, T tokens of a block, N ids of the corpus.
"""

import hashlib
import json
import math
import os
import urllib.request
from collections.abc import Iterable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from configs import InputError, MissingInput
from scratch_models.seeds import seeded_generator

IGNORED_TARGET = -100  # what torch's cross_entropy leaves out
TRAINING_SHARE = 0.9
Text = TypeVar("Text", str, Tensor)

TINY_SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, line ends as they are.

    Raises:
        InputError: the file is missing, a folder, empty, or not UTF-8.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInput(f"{path}: no such file, expected a text file in UTF-8")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a text file in UTF-8")
    content = path.read_bytes()
    if not content:
        raise InputError(f"{path}: is empty, expected a text file in UTF-8")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is 0x{content[error.start]:02x}"
        raise InputError(f"{path}: {found}, expected text in UTF-8: convert the file first") from None


class CharacterVocabulary:
    """One id per character.

    >>> vocabulary = CharacterVocabulary.from_text("hello")
    >>> vocabulary.encode("hole"), vocabulary.decode([1, 0, 2])
    ([1, 3, 2, 0], 'hel')
    """

    def __init__(self, characters: Sequence[str]) -> None:
        if not characters or len(set(characters)) != len(characters) or any(len(one) != 1 for one in characters):
            raise InputError("a character vocabulary needs distinct single characters, at least one")
        self.characters = tuple(characters)
        self._ids = {character: id_ for id_, character in enumerate(characters)}

    @classmethod
    def from_text(cls, text: str) -> "CharacterVocabulary":
        """The distinct characters of a text in the order of their code points."""
        return cls(sorted(set(text)))

    @classmethod
    def load(cls, path: str | Path) -> "CharacterVocabulary":
        """The vocabulary that `save` wrote."""
        text = read_text(path)
        try:
            return cls(json.loads(text))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: {error}, expected a JSON list of distinct characters") from None

    def save(self, path: str | Path) -> None:
        """Writes the characters as a JSON list, the id of each being its place."""
        Path(path).write_text(json.dumps(self.characters, ensure_ascii=False) + "\n", encoding="utf-8")

    def __len__(self) -> int:
        return len(self.characters)

    @property
    def vocabulary_size(self) -> int:
        """How many characters there are."""
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """The ids of a text; a character outside the vocabulary is an InputError that names it."""
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            raise InputError(
                f"character {text.index(character)} of the text is {character!r}, expected one of the {len(self)} "
                "characters that the model was trained on: leave it out"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        return "".join(self.characters[id_] for id_ in ids)


def split_by_position(corpus: Text) -> tuple[Text, Text]:
    """The first 90 % to train on and the rest held out, of a text or of its ids.

    >>> split_by_position("abcdefghijk")
    ('abcdefghi', 'jk')
    """
    boundary = int(TRAINING_SHARE * len(corpus))
    return corpus[:boundary], corpus[boundary:]


class RandomBlocks:
    """Blocks from random places of the training ids, every step's a function of seed and step alone.

    So a run that resumes reads what the unbroken run would have read, and the blocks of a step are the same for any
    number of processes.
    """

    def __init__(self, ids: Tensor, block_size: int, blocks_per_batch: int, seed: int) -> None:
        if len(ids) <= block_size:
            raise InputError(
                f"the training part of the corpus has {len(ids)} tokens, expected at least {block_size + 1} for one "
                f"block of {block_size} with its targets: pass a longer text or a smaller block_size"
            )
        self.ids = ids
        self.block_size = block_size
        self.blocks_per_batch = blocks_per_batch
        self.seed = seed

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[dict[str, Tensor]]:
        """One process's share of a step's blocks, every world_size-th: `input_ids` and `targets`, each (B, T)."""
        if self.blocks_per_batch < world_size:
            raise InputError(
                f"{self.blocks_per_batch} blocks per batch do not reach {world_size} processes: "
                "raise the blocks per batch or launch fewer processes"
            )
        last_offset = len(self.ids) - self.block_size - 1
        offsets = torch.randint(last_offset + 1, (self.blocks_per_batch,), generator=seeded_generator(self.seed, step))
        windows = offsets[rank::world_size, None] + torch.arange(self.block_size + 1)  # (B, T + 1)
        blocks = self.ids[windows].long()  # (B, T + 1)
        return [{"input_ids": blocks[:, :-1].contiguous(), "targets": blocks[:, 1:].contiguous()}]


def held_out_blocks(ids: Tensor, block_size: int, blocks_per_batch: int) -> list[dict[str, Tensor]]:
    """Micro-batches that hold every id but the first exactly once as a target: `input_ids` and `targets`, each (B, T).

    The windows follow each other without overlap; the last is filled up with targets that the loss ignores.
    """
    if len(ids) < 2:
        raise InputError(
            f"the held-out part of the corpus has {len(ids)} tokens, expected at least 2: pass a longer text"
        )
    missing = -(len(ids) - 1) % block_size
    input_ids = torch.cat([ids[:-1].long(), torch.zeros(missing, dtype=torch.long)]).view(-1, block_size)  # (N / T, T)
    targets = torch.cat([ids[1:].long(), torch.full((missing,), IGNORED_TARGET)]).view(-1, block_size)  # (N / T, T)
    return [
        {"input_ids": some_ids, "targets": some_targets}
        for some_ids, some_targets in zip(
            input_ids.split(blocks_per_batch), targets.split(blocks_per_batch), strict=True
        )
    ]


def bits_per_byte(loss_nats_sum: float, text_bytes: int) -> float:
    """Bits that a model needs per byte of text, from the nats of all targets and the UTF-8 bytes of those same targets.

    Unlike nats per token it can be compared across vocabularies.

    >>> bits_per_byte(loss_nats_sum=100 * math.log(256), text_bytes=100)
    8.0
    """
    return loss_nats_sum / (math.log(2) * text_bytes)


def tiny_shakespeare() -> str:
    """Tiny Shakespeare (1,115,394 characters), downloaded once into the user's cache and checked against its sha256.

    Source: github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt; the text is in the public domain.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "graft" / "tinyshakespeare.txt"
    if not (path.is_file() and _sha256(path.read_bytes()) == TINY_SHAKESPEARE_SHA256):
        _write_whole(path, _download(TINY_SHAKESPEARE_URL))
    return read_text(path)


def _download(url: str) -> bytes:
    instead = "download it elsewhere and pass the file as --data PATH"
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            content: bytes = response.read()
    except (OSError, HTTPException) as error:
        raise InputError(f"{url}: cannot be downloaded ({error}); {instead}") from None
    if _sha256(content) != TINY_SHAKESPEARE_SHA256:
        raise InputError(f"{url}: sha256 is {_sha256(content)}, expected {TINY_SHAKESPEARE_SHA256}; {instead}")
    return content


def _write_whole(path: Path, content: bytes) -> None:
    # Two processes may download at once: each writes its own file, and the last rename wins with the same bytes.
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

"""What a delta's folder holds: the new tokens with the hashes of their base, and the file of their rows."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from configs import InputError, MissingInput
from configs.file_hash import file_sha256
from configs.manifest import check_manifest
from tokenizer_ext.extension.certificate import WeightHashes
from tokenizer_ext.pages.json_records import read_record

DELTA, NEW_ROWS = "delta.json", "new_rows.safetensors"
FORMAT = 1
EXPECTED = "a delta that `python -m tokenizer_ext.delta` wrote"


@dataclass(frozen=True, kw_only=True)
class CharacterRecord:
    """A character that gets a token of its own."""

    in_bytes: tuple[int, ...]
    """The ids of the bytes that it was before."""


Token = tuple[int, int] | CharacterRecord | str
"""What makes a new token: the two ids that are merged, the bytes of a character, or the text of a control token."""


@dataclass(frozen=True, kw_only=True)
class DeltaBase:
    """The base that a delta belongs to."""

    tokens: int
    """Its ids, and the first new id."""
    tokenizer: str
    """sha256 of what decides its ids, as in the certificate."""
    weights: WeightHashes
    """Of its weights, as in the certificate."""


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What `delta.json` holds."""

    format: int
    """Version of this format."""
    base: DeltaBase
    rows: int
    """Rows of the extended tables, padding included."""
    tied: bool
    """Whether the head has the rows of the embedding."""
    dtype: str
    """Of the new rows."""
    rows_sha256: str
    """sha256 of `new_rows.safetensors`."""
    tokens: tuple[Token, ...]
    """The new tokens, in the order of their ids."""
    reopened: bool = False
    """Whether the rows were read back from the disk and found equal to those in memory; then there is a manifest."""


def read_delta(folder: Path) -> tuple[Delta, dict[str, Tensor]]:
    """What a folder holds of an extension, and its new rows.

    Raises:
        InputError: a file is missing, damaged or of another format, or a row is not finite.

    """
    check_manifest(folder)
    for name in (DELTA, NEW_ROWS):
        if not (folder / name).is_file():
            raise MissingInput(f"{folder}: holds no {name}, expected {EXPECTED}")
    delta = read_record(Delta, folder / DELTA, EXPECTED)
    if delta.format != FORMAT:
        raise InputError(f"{folder / DELTA}: is of format {delta.format}, expected {FORMAT}: use a newer version")
    found = file_sha256(folder / NEW_ROWS)
    if found != delta.rows_sha256:
        raise InputError(
            f"{folder / NEW_ROWS}: has sha256 {found}, expected {delta.rows_sha256}: it is damaged, get it anew"
        )
    try:
        rows = load_file(folder / NEW_ROWS)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{folder / NEW_ROWS}: no tensors ({error}), expected {EXPECTED}") from None
    check_rows_are_finite(rows, str(folder / NEW_ROWS))
    return delta, rows


def check_rows_are_finite(rows: dict[str, Tensor], where: str) -> None:
    """Refuses rows with NaN or infinity."""
    for name, part in rows.items():
        if not torch.isfinite(part).all():
            raise InputError(f"{where}: {name} holds NaN or infinity, expected finite rows of the new tokens")

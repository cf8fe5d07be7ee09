"""Checkpoints that are complete or absent, and that show a flipped bit.

A checkpoint is a folder `step_00000100/` of safetensors files, `state.json`, and `manifest.json` with the sha256 of
every other file. It is written under a temporary name, flushed to the disk, and renamed last; nothing in it is pickled.
The files hold tensors that are whole, or each process's slices of all of them (`slice_files.py`).
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs import InputError
from configs.errors import FullDisk
from configs.file_hash import file_sha256
from configs.whole_folder import remove_whole, whole_folder
from scratch_models.checkpoints.slice_files import holds_slices, read_whole
from scratch_models.launch.metrics_file import is_entry

MANIFEST = "manifest.json"
STATE = "state.json"
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds."""

    step: int
    """Optimizer steps done."""
    tensors: dict[str, dict[str, Tensor]]
    """File stem -> tensor name -> tensor."""
    state: dict[str, Any]
    """Everything else, as JSON."""


def save_checkpoint(checkpoint: Checkpoint, folder: Path, *, kept: int = KEPT) -> Path:
    """The new folder `step_<step>` under `folder`; all but the newest `kept` are removed afterwards, none with 0.

    Raises:
        InputError: the disk does not take it; the checkpoints before it stay as they are.

    """
    needed = sum(tensor.nbytes for tensors in checkpoint.tensors.values() for tensor in tensors.values())
    with checkpoint_folder(checkpoint.step, folder, checkpoint.state, needed=needed, kept=kept) as partial:
        for stem, tensors in checkpoint.tensors.items():
            on_cpu = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
            save_file(on_cpu, partial / f"{stem}.safetensors")
    return folder / _name(checkpoint.step)


@contextmanager
def checkpoint_folder(
    step: int, folder: Path, state: Mapping[str, Any], *, needed: int, kept: int = KEPT
) -> Iterator[Path]:
    """A new `step_<step>` under `folder` to write safetensors into; it is complete once the block ends.

    Args:
        step: Optimizer steps done.
        folder: That of the checkpoints.
        state: What else is to be remembered, as JSON.
        needed: Bytes of the tensors.
        kept: As for `save_checkpoint`.

    Raises:
        InputError: the disk does not take it; the checkpoints before it stay as they are.

    """
    target = folder / _name(step)
    try:
        # The step may have been saved before, and trained again after a resume from an older one.
        with whole_folder(target, needed=needed) as partial:
            yield partial
            (partial / STATE).write_text(json.dumps({"step": step, **state}, indent=1))
            hashes = {path.name: file_sha256(path) for path in sorted(partial.iterdir())}
            (partial / MANIFEST).write_text(json.dumps(hashes, indent=1))
    except (OSError, SafetensorError) as error:
        if isinstance(error, FullDisk):
            raise InputError(f"{error}; then go on with --resume") from error
        raise InputError(
            f"{target}: cannot be saved ({error}): make room or choose another output_dir, then resume"
        ) from error
    clear_half_removed(folder)
    drop_older(folder, kept=kept)


def drop_older(folder: Path, *, kept: int = KEPT, step: int | None = None) -> None:
    """Removes all but the newest `kept` checkpoints, of those up to `step` where that is given; none where it is 0."""
    found = [path for path in list_checkpoints(folder) if step is None or path.name <= _name(step)]
    for old in found[:-kept] if kept else []:
        remove_whole(old)


def clear_half_removed(folder: Path) -> None:
    """Removes what a process that was killed had begun to write or to remove."""
    for left in folder.glob(".step_*"):
        shutil.rmtree(left, ignore_errors=True)


def _name(step: int) -> str:
    return f"step_{step:08d}"


def load_newest_checkpoint(folder: Path) -> tuple[Checkpoint, list[str]]:
    """The newest whole checkpoint under `folder`, and why newer ones were passed over.

    Raises:
        InputError: there is no whole checkpoint.

    """
    passed_over: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        problem = find_damage(path)
        if problem is None:
            try:
                checkpoint = _read(path)
            except (InputError, SafetensorError) as error:  # its hashes are right: it was made to do harm
                problem = str(error)
            else:
                problem = find_not_finite(checkpoint.tensors)
                if problem is None:
                    return checkpoint, passed_over
            problem = f"{path.name}: {problem}"
        passed_over.append(problem)
    raise _none_whole(folder, passed_over)


def find_newest_checkpoint(folder: Path) -> tuple[Path, list[str]]:
    """The folder of the newest checkpoint whose hashes are right, and why newer ones were passed over.

    Raises:
        InputError: there is none.

    """
    passed_over: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        problem = find_damage(path)
        if problem is None:
            return path, passed_over
        passed_over.append(problem)
    raise _none_whole(folder, passed_over)


def _none_whole(folder: Path, passed_over: Sequence[str]) -> InputError:
    reasons = f" ({'; '.join(passed_over)})" if passed_over else ""
    return InputError(f"{folder}: no whole checkpoint to resume from{reasons}: start a run in another output_dir")


def find_damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None."""
    try:
        hashes = json.loads((checkpoint / MANIFEST).read_text())
    except (OSError, ValueError, RecursionError):
        hashes = None
    if not isinstance(hashes, dict) or STATE not in hashes:
        return f"{checkpoint.name}: {MANIFEST} is missing or damaged"
    for name, expected in hashes.items():
        path = checkpoint / name
        if path.name != name or "\0" in name or not (name == STATE or name.endswith(".safetensors")):
            return f"{checkpoint.name}: {MANIFEST} names {name!r:.200}, expected {STATE} and safetensors beside it"
        if not path.is_file():
            return f"{checkpoint.name}: {name} is missing"
        if file_sha256(path) != expected:
            return f"{checkpoint.name}: {name} is not the file that was saved (sha256 differs)"
    return None


def find_not_finite(tensors: Mapping[str, Mapping[str, Tensor]]) -> str | None:
    """The first tensor that holds NaN or an infinity, in words; None where all are finite."""
    for stem, named in tensors.items():
        for name, tensor in named.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                wrong = int((~torch.isfinite(tensor)).sum())
                return f"{wrong:,} of {tensor.numel():,} numbers of {name} ({stem}) are not finite"
    return None


def find_other_tensor(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """The first name under which something else was found than expected, in words; None where all shapes are equal."""
    for name in sorted(expected.keys() | found.keys()):
        shapes = [tuple(one[name].shape) if name in one else "nothing" for one in (found, expected)]
        if shapes[0] != shapes[1]:
            return f"holds {shapes[0]} as {name:.200}, expected {shapes[1]}"
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders, oldest first."""
    return sorted(path for path in folder.glob("step_*") if path.is_dir())


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says beside its tensors: its step, and what it was saved with.

    Raises:
        InputError: it is damaged.

    """
    try:
        state: dict[str, Any] = json.loads((checkpoint / STATE).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{checkpoint / STATE}: cannot be read ({error}), expected what a run wrote there") from None
    step = state.get("step") if isinstance(state, dict) else None
    if type(step) is not int or checkpoint.name != f"step_{step:08d}":
        raise InputError(f"{checkpoint / STATE}: says nothing of the step {checkpoint.name}, expected what a run wrote")
    return state


def read_tensors(checkpoint: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint whose hashes are right, whole: file stem -> tensor name -> tensor."""
    named = json.loads((checkpoint / MANIFEST).read_text())  # what it does not name was not compared with a hash
    files = sorted(name for name in named if name.endswith(".safetensors"))
    if holds_slices(files):
        return read_whole(checkpoint)
    return {Path(name).stem: load_file(checkpoint / name) for name in files}


def _as_object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _read(path: Path) -> Checkpoint:
    state = read_state(path)
    if "unevaluated" in state and not is_entry({"step": 0, **_as_object(state["unevaluated"])}):
        raise InputError(f"{STATE}: unevaluated is {state['unevaluated']!r:.40}, expected what a run wrote")
    return Checkpoint(step=state.pop("step"), tensors=read_tensors(path), state=state)

"""A run of somebody else, with things put into its folder to do harm, and then `--resume`.

It goes on as it was, or is refused in one line: nothing outside is opened, written or removed, and no pickle read.
"""

import json
import os
import pickle
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from configs.file_hash import file_sha256
from scratch_models.checkpoints.checkpoint import MANIFEST, STATE
from tests.reliability.full_disks import in_child
from tests.reliability.hostile_folders import plant_pickles
from tests.reliability.small_runs import run_from_scratch, write_inputs

Change = Callable[[Path], Any]
NEWEST, SECRET = "checkpoints/step_00000012", b"the secret of somebody else"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Inputs, and a run that saved its last step but has not ended."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    run_from_scratch(folder, folder / "run")
    return folder


def link_to_file(name: str) -> Change:
    def change(run: Path) -> None:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.symlink_to(run.parent / "outside" / "secret")

    return change


def link_to_folder(name: str) -> Change:
    def change(run: Path) -> None:
        shutil.rmtree(run / name, ignore_errors=True)
        (run / name).symlink_to(run.parent / "outside")

    return change


def never_ends(name: str) -> Change:
    def change(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return change


def write(name: str, content: bytes) -> Change:
    return lambda run: (run / name).write_bytes(content)


def grow(name: str, size: int) -> Change:
    return lambda run: os.truncate(run / name, size)


def in_checkpoint(change: Callable[[Path], Any], folder: str = NEWEST) -> Change:
    """Changes the files of a checkpoint, and has its manifest say that they are right."""

    def change_all(run: Path) -> None:
        change(run / folder)
        names = [path.name for path in (run / folder).iterdir() if path.name != MANIFEST and path.is_file()]
        hashes = {name: file_sha256(run / folder / name) for name in names}
        (run / folder / MANIFEST).write_text(json.dumps(hashes))

    return change_all


def in_manifest(**names: Any) -> Change:
    def change(run: Path) -> None:
        path = run / NEWEST / MANIFEST
        path.write_text(json.dumps({**json.loads(path.read_text()), **names}))

    return change


def in_state(content: Any, folder: str = NEWEST) -> Change:
    return in_checkpoint(lambda path: (path / STATE).write_text(json.dumps(content)), folder)


def tensors(name: str, **found: Any) -> Change:
    def change(folder: Path) -> None:
        file = folder / f"{name}.safetensors"
        save_file({**(load_file(file) if file.exists() else {}), **found}, file)

    return in_checkpoint(change)


class Runs:
    """What a pickle runs when it is read."""

    def __reduce__(self):
        return os.system, ("touch canary",)


def pickled(name: str) -> Change:
    return in_checkpoint(lambda folder: (folder / name).write_bytes(pickle.dumps(Runs())))


LINKS = ("run.json", "metrics.jsonl", "report.json", "report.html", "final", "best", "checkpoints", NEWEST)
HOSTILE: dict[str, Change] = {
    **{
        f"{name} is a link to a file": link_to_file(name) for name in (*LINKS, f"{NEWEST}/{STATE}", "final/config.json")
    },
    **{f"{name} is a link to a folder": link_to_folder(name) for name in ("final", "best", "checkpoints", NEWEST)},
    **{
        f"{name} is a link": link_to_file(name)
        for name in (".metrics.jsonl.partial", ".run.json.partial", ".final.partial", ".report.html.partial", ".lock")
    },
    **{f"{name} never ends": never_ends(name) for name in ("run.json", "metrics.jsonl", f"{NEWEST}/{MANIFEST}")},
    "optimizer is a pickle": pickled("optimizer_0.safetensors"),
    "pickles beside": lambda run: plant_pickles(run / NEWEST),
    "an optimizer in a pickle beside": pickled("optimizer_0.bin"),
    "manifest out of the folder": in_manifest(**{"../../../outside/secret": "0" * 64}),
    "manifest with a whole path": in_manifest(**{"/etc/hostname": "0" * 64}),
    "manifest of numbers": in_manifest(**{STATE: 7}),
    "manifest without tensors": lambda run: (
        (run / NEWEST / MANIFEST).write_text(json.dumps({STATE: file_sha256(run / NEWEST / STATE)})) and None
    ),
    "deep manifest": write(f"{NEWEST}/{MANIFEST}", b"[" * 100_000),
    "deep state": in_checkpoint(lambda folder: (folder / STATE).write_text("[" * 100_000)),
    "huge record": grow("run.json", 70_000_000),
    "huge state": in_checkpoint(lambda folder: os.truncate(folder / STATE, 70_000_000)),
    "huge manifest": grow(f"{NEWEST}/{MANIFEST}", 70_000_000),
    "metrics of 100 GB": grow("metrics.jsonl", 100_000_000_000),
    "metrics of strange things": write(
        "metrics.jsonl",
        b'{"step": 3, "tokens": 1, "seconds": 1, "loss_nats": {}, "held_out_bits_per_byte": "x"}\n' * 12,
    ),
    "state is a list": in_state([12]),
    "step is a path": in_state({"step": "../../outside"}),
    "step is huge": in_state({"step": 10**400}),
    "step of another": in_state({"step": 7}),
    "unevaluated is text": in_state({"step": 12, "unevaluated": "x"}),
    "unevaluated is strange": in_state({"step": 12, "unevaluated": {"tokens": [], "loss_nats": {}}}),
    "another tensor": tensors("trained", evil=torch.zeros(3)),
    "a tensor of another shape": tensors("trained", **{"model.token_embedding.weight": torch.zeros(1)}),
    "state of no weight": tensors("optimizer_0", **{"999999999999999999999.exp_avg": torch.zeros(3)}),
    "state without a number": tensors("optimizer_0", **{"x.exp_avg": torch.zeros(3)}),
    "state of another shape": tensors("optimizer_0", **{"0.exp_avg": torch.zeros(3)}),
    "best without a measure": lambda run: in_state({"step": 12}, _best(run))(run),
    "best of text": lambda run: in_state({"step": int(_best(run)[-8:]), "held_out_bits_per_byte": "1"}, _best(run))(
        run
    ),
    "best of other tensors": lambda run: in_checkpoint(
        lambda folder: save_file({"evil": torch.zeros(2)}, folder / "trained.safetensors"), _best(run)
    )(run),
}


def _best(run: Path) -> str:
    (path,) = (run / "best").glob("step_*")
    return f"best/{path.name}"


FAST = {
    *("final is a link to a folder", "optimizer is a pickle", "manifest out of the folder", "deep manifest"),
}
SECONDS = 20


def _watch(run: Path) -> None:
    """Has this process say which pickles, and which files outside, it opens."""
    outside = str(run.parent / "outside")

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        name = str(arguments[0]) if event == "open" else ""
        if name.startswith(outside) or name == "/etc/hostname" or name.endswith((".bin", ".pkl", ".pt")):
            os.write(2, f"OPENED {name}\n".encode())
        if event in ("pickle.find_class", "os.system"):
            os.write(2, f"RAN {event} {arguments}\n".encode())

    sys.addaudithook(note)


def _resume(made: Path, run: Path) -> None:
    signal.alarm(10 * SECONDS)  # what waits for ever
    _watch(run)
    run_from_scratch(made, run, resume=True)


def resume_hostile(made: Path, folder: Path, name: str) -> None:
    run = folder / "run"
    shutil.copytree(made / "run", run)
    (folder / "outside").mkdir()
    (folder / "outside" / "secret").write_bytes(SECRET)
    HOSTILE[name](run)
    started = time.monotonic()
    ended = in_child(partial(_resume, made, run))
    assert time.monotonic() - started < SECONDS, ended
    assert "OPENED" not in ended.said and "RAN" not in ended.said, ended.said
    assert ended.status in (0, 2) and "Traceback" not in ended.said, ended.said
    assert ended.status == 0 or len(ended.said.splitlines()[-1]) < 1_000
    assert [path.name for path in (folder / "outside").iterdir()] == ["secret"]
    assert (folder / "outside" / "secret").read_bytes() == SECRET


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.long) for name in HOSTILE]
)
def test_a_hostile_run_goes_on_or_is_refused_in_one_line(made, tmp_path, name):
    resume_hostile(made, tmp_path, name)

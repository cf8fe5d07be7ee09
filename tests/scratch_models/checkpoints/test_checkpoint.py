import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from configs import InputError
from scratch_models.checkpoints.checkpoint import (
    Checkpoint,
    find_damage,
    list_checkpoints,
    load_newest_checkpoint,
    save_checkpoint,
)
from scratch_models.loop.optimizers import load_optimizer_tensors, optimizer_tensors
from tests.killed_writes import kill_at_every_change

FILES = ("manifest.json", "optimizer_0.safetensors", "state.json", "trained.safetensors")


def make_checkpoint(step: int) -> Checkpoint:
    trained: dict[str, Tensor] = {"weight": torch.full((3, 5), float(step)), "bias": torch.arange(3.0)}
    return Checkpoint(step, {"trained": trained, "optimizer_0": {"0.step": torch.tensor(float(step))}}, {"note": "x"})


def save_two(folder: Path) -> Path:
    save_checkpoint(make_checkpoint(100), folder)
    return save_checkpoint(make_checkpoint(200), folder)


def test_what_is_loaded_is_what_was_saved(tmp_path: Path):
    saved = make_checkpoint(100)
    assert sorted(path.name for path in save_checkpoint(saved, tmp_path).iterdir()) == sorted(FILES)
    loaded, passed_over = load_newest_checkpoint(tmp_path)
    assert (loaded.step, loaded.state, passed_over) == (100, {"note": "x"}, [])
    assert loaded.tensors.keys() == saved.tensors.keys()
    for stem, tensors in saved.tensors.items():
        assert tensors.keys() == loaded.tensors[stem].keys()
        assert all(torch.equal(loaded.tensors[stem][name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.Muon])
def test_an_optimizer_goes_on_as_if_it_had_never_stopped(make: Callable[..., torch.optim.Optimizer]):
    def steps(weight: nn.Parameter, optimizer: torch.optim.Optimizer, number: int) -> None:
        for _ in range(number):
            weight.grad = weight.detach() ** 2 + 1
            optimizer.step()

    torch.manual_seed(0)
    unbroken, resumed = (nn.Parameter(torch.eye(4)) for _ in range(2))
    optimizer = make([unbroken], lr=0.1)
    steps(unbroken, optimizer, 3)
    resumed.data.copy_(unbroken.data)
    another = make([resumed], lr=0.1)
    load_optimizer_tensors(another, {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()})
    steps(unbroken, optimizer, 3)
    steps(resumed, another, 3)
    assert torch.equal(resumed, unbroken)


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path, file: str):
    path = save_checkpoint(make_checkpoint(100), tmp_path) / file
    content = path.read_bytes()
    assert find_damage(path.parent) is None
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        # White space of the manifest may change: what it says is then still the same.
        assert find_damage(path.parent) is not None or (file == "manifest.json" and bytes([content[place]]).isspace())
    path.write_bytes(content)
    assert find_damage(path.parent) is None


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("bytes_left", [None, 0, 1, -1])
def test_a_damaged_newest_checkpoint_is_passed_over_and_named(tmp_path: Path, file: str, bytes_left: int | None):
    path = save_two(tmp_path) / file
    if bytes_left is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:bytes_left])
    loaded, (reason,) = load_newest_checkpoint(tmp_path)
    assert loaded.step == 100
    assert torch.equal(loaded.tensors["trained"]["weight"], torch.full((3, 5), 100.0))
    assert reason.startswith("step_00000200: ") and file in reason


@pytest.mark.parametrize("content", ["{}", "[]", "null", '"state.json"'])
def test_a_manifest_that_lists_no_file_vouches_for_nothing(tmp_path: Path, content: str):
    (save_two(tmp_path) / "manifest.json").write_text(content)
    loaded, passed_over = load_newest_checkpoint(tmp_path)
    assert loaded.step == 100 and passed_over == ["step_00000200: manifest.json is missing or damaged"]


def test_without_a_whole_checkpoint_every_reason_is_given(tmp_path: Path):
    (save_two(tmp_path) / "state.json").unlink()
    (tmp_path / "step_00000100" / "manifest.json").unlink()
    with pytest.raises(InputError) as refused:
        load_newest_checkpoint(tmp_path)
    for reason in ("no whole checkpoint", "step_00000200: state.json is missing", "step_00000100: manifest.json"):
        assert reason in str(refused.value)


def test_a_save_that_is_killed_leaves_a_whole_checkpoint_and_the_next_save_works(tmp_path: Path):
    save_two(tmp_path / "200")
    found = []
    for number in kill_at_every_change(lambda: save_checkpoint(make_checkpoint(300), tmp_path / "200"), tmp_path):
        loaded, passed_over = load_newest_checkpoint(tmp_path / "200")
        found.append(loaded.step)
        assert loaded.step in (200, 300) and passed_over == [], number
        save_checkpoint(make_checkpoint(300), tmp_path / "200")
        assert load_newest_checkpoint(tmp_path / "200")[0].step == 300
        assert [path.name for path in sorted((tmp_path / "200").iterdir())] == ["step_00000200", "step_00000300"]
        shutil.rmtree(tmp_path / "200")
        save_two(tmp_path / "200")
    assert load_newest_checkpoint(tmp_path / "200")[0].step == 300
    assert set(found) == {200, 300}, "some kills came before the new checkpoint was in its place, some after"


def test_a_full_disk_is_one_line_and_what_was_saved_stays(tmp_path: Path):
    save_two(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, hard))  # as on a full disk: a write fails in the middle of a file
    try:
        with pytest.raises(InputError, match=r"step_00000300: cannot be written \(File too large\): needs"):
            save_checkpoint(make_checkpoint(300), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step_00000100", "step_00000200"]
    assert load_newest_checkpoint(tmp_path)[0].step == 200


def test_the_newest_two_are_kept_and_a_step_saved_again_is_replaced(tmp_path: Path):
    for step in (100, 200, 300, 1000):
        save_checkpoint(make_checkpoint(step), tmp_path)
    save_checkpoint(Checkpoint(1000, {"trained": {"weight": torch.ones(1)}}, {}), tmp_path)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_00000300", "step_00001000"]
    assert load_newest_checkpoint(tmp_path)[0].tensors.keys() == {"trained"}

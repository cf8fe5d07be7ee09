"""Tensors of which two processes each write their slices, read again by both, sliced otherwise, and by one alone."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from configs import InputError
from scratch_models.checkpoints import slice_files
from scratch_models.checkpoints.checkpoint import Checkpoint, find_damage, load_newest_checkpoint
from scratch_models.checkpoints.slice_files import flat_names, holds_slices, read_slices, read_whole, write_slices
from scratch_models.loop.devices import make_accelerator, make_mesh
from scratch_models.loop.sharding import gather_tensor
from scratch_models.loop.slice_checkpoints import find_slices, refuse_folder_apart, save_slices
from tests.reliability.forked_ranks import run_ranks


def state() -> dict[str, dict[str, Tensor]]:
    """A matrix that two cannot share out evenly, one with fewer rows than processes, and a number."""
    torch.manual_seed(0)
    trained = {"model.wide": torch.randn(7, 3), "model.low": torch.randn(1, 4), "model.norm": torch.randn(5)}
    return {"trained": trained, "optimizer_0": {"0.exp_avg": torch.randn(7, 3), "0.step": torch.tensor(3.0)}}


def write(folder: Path, rank: int) -> None:
    """What fails here fails the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    slice_files.BYTES_OF_FILE = 100
    accelerator = make_accelerator("fp32")
    mesh = make_mesh(accelerator)

    def sliced(place, *, empty: bool = False) -> dict[str, dict[str, Tensor]]:
        def one(tensor: Tensor) -> Tensor:
            made = tensor if not tensor.ndim else distribute_tensor(tensor, mesh, [place])
            return torch.zeros_like(made) if empty else made

        return {stem: {name: one(tensor) for name, tensor in named.items()} for stem, named in state().items()}

    save_slices(Checkpoint(7, sliced(Shard(0)), {"note": "x"}), folder, accelerator)
    distributed.barrier()
    path, described, passed_over = find_slices(folder, accelerator)
    assert (path.name, described.step, described.state, passed_over) == ("step_00000007", 7, {"note": "x"}, [])
    for place in (Shard(0), Replicate()):
        found = sliced(place, empty=True)
        read_slices(flat_names(found), path)
        for name, tensor in flat_names(found).items():
            whole = gather_tensor(tensor)
            assert torch.equal(whole, flat_names(state())[name]), name
    (folder / "both").mkdir(exist_ok=True)
    distributed.barrier()
    write_slices(sliced(Shard(0))["trained"], folder / "both", whole_too=True)
    with pytest.raises(InputError, match="process 1 does not see it"):
        refuse_folder_apart(folder / ("both" if rank == 0 else "elsewhere"), accelerator)
    with pytest.raises(InputError, match="could not read"):
        read_slices({"trained.absent": torch.zeros(2)}, path)
    if rank == 1:
        shutil.rmtree(folder / "both" / "sharded")
    distributed.barrier()
    distributed.destroy_process_group()


def test_slices_are_read_again_by_any_number_of_processes(tmp_path: Path):
    statuses = run_ranks(partial(write, tmp_path / "checkpoints"), tmp_path, sharded=True, seconds=60)
    assert statuses == [0, 0], [path.read_text()[-3000:] for path in sorted(tmp_path.glob("*.txt"))]
    path = tmp_path / "checkpoints" / "step_00000007"
    assert holds_slices(file.name for file in path.iterdir())
    loaded, passed_over = load_newest_checkpoint(tmp_path / "checkpoints")
    assert (loaded.step, passed_over) == (7, [])
    assert {name: one.tolist() for name, one in flat_names(loaded.tensors).items()} == {
        name: one.tolist() for name, one in flat_names(state()).items()
    }
    files = [load_file(one) for one in sorted((tmp_path / "checkpoints" / "both").glob("*.safetensors"))]
    assert len(files) > 1
    together = {name: one for file in files for name, one in file.items()}
    assert all(torch.equal(together[name], tensor) for name, tensor in state()["trained"].items())
    shard = next(path.glob("shard-00002-*"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert find_damage(path) == f"{path.name}: {shard.name} is not the file that was saved (sha256 differs)"
    assert read_whole(path).keys() == state().keys()


def test_slices_that_claim_a_place_far_behind_them_are_refused(tmp_path: Path):
    """Whoever reads them would make room for all that is said to come before."""
    (tmp_path / "step").mkdir()
    write_slices({"trained.weight": torch.ones(4, 4)}, tmp_path / "step")
    (path,) = (tmp_path / "step").glob("*.safetensors")
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        told = file.metadata()
    far = {name: value.replace("[0, 0]", "[99999999999, 0]") for name, value in told.items()}
    assert far != told
    for changed, said in ((far, "its files hold"), ({name: "{}" for name in told}, "no slices that can be read")):
        save_file(tensors, path, changed)
        with pytest.raises(InputError, match=said):
            read_whole(tmp_path / "step")

"""What a training from slices leaves: adapters and a base found unchanged, or the files of all weights that trained."""

import shutil
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

from configs import InputError
from configs.disk_space import check_space
from finetune.export.base_on_disk import base_on_disk, note_base
from finetune.lora.trainable_model import TrainableModel
from scratch_models.checkpoints.slice_files import write_slices
from scratch_models.launch.waiting import first_said, wait_for_all
from scratch_models.loop.run_folder import RunFolder
from scratch_models.sharded.sliced_model import SlicedModel
from tokenizer_ext.foreign.weight_headers import read_headers
from tokenizer_ext.pages.progress import shown

TRAINED = ".trained"
"""The folder in that of a run where weights that trained in slices are put together."""
SLICES_BESIDE = "sharded"
"""What torch calls the folder of the slices that it puts together."""


def leave_slices(
    trainable: TrainableModel, sliced: SlicedModel | None, run: RunFolder, accelerator: Accelerator
) -> None:
    """Adapters whole in every process, and the base, found to be what was read, without weights again.

    Where every weight trained they are in files of the run's folder, each slice found to be what was written, and the
    model is without any. All processes must call it; nothing happens to a base that is whole.

    Raises:
        InputError: a slice of a frozen weight is not what was read, or one that trained not what was written.

    """
    if sliced is None:
        return
    base = base_on_disk(trainable.model)
    assert base is not None
    if trainable.adapted is None:
        base = replace(base, trained=_write_trained(sliced, run, accelerator))
    elif name := first_said(sliced.find_changed(), accelerator):
        raise InputError(f"{name}: is frozen, and is not what was read from the base any more: nothing was saved")
    else:
        base = replace(base, found_unchanged=True)
    sliced.leave()
    note_base(trainable.model, base)


@shown("writing the weights that trained")
def _write_trained(sliced: SlicedModel, run: RunFolder, accelerator: Accelerator) -> Path:
    """The folder of the weights as any library opens them, put together from every process's slices."""
    folder = run.path / TRAINED
    weights = {name: weight.detach() for name, weight in sliced.model.named_parameters()}
    problem = None
    if accelerator.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped here
        try:
            check_space(folder, 2 * sum(weight.nbytes for weight in weights.values()))  # slices, and what they make
            folder.mkdir(parents=True)
        except InputError as error:
            problem = str(error)
    if problem := first_said(problem, accelerator):
        raise InputError(problem)
    write_slices(weights, folder, whole_too=True)
    wait_for_all(accelerator)
    stored = read_headers(sorted(folder.glob("*.safetensors")))
    if name := first_said(sliced.find_different(stored), accelerator):
        raise InputError(f"{name} is another once it is read back, so nothing was kept: check the disk, then --resume")
    if accelerator.is_main_process:
        shutil.rmtree(folder / SLICES_BESIDE)
    return folder

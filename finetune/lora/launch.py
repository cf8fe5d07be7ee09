"""What every tuning of a base does first: its settings, the folder of its run, its processes."""

from typing import TypeVar

from accelerate import Accelerator

from finetune.chat.batches import check_global_batch
from finetune.lora.resolved_settings import as_given, take_recorded
from finetune.lora.tuning_settings import TuningSettings
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.precision import expect_precision
from scratch_models.loop.run_folder import RunFolder, choose_run_folder
from tokenizer_ext.pages.plots import require_plots
from tokenizer_ext.pages.terminal import quiet_libraries

S = TypeVar("S", bound=TuningSettings)


def prepare_launch(settings: S, kind: str, per_step: str) -> tuple[S, RunFolder, Accelerator]:
    """The settings, with what a run that goes on recorded, the folder that it will use and its processes.

    Args:
        settings: As they were given.
        kind: The run's folder begins with it where no other is named: `sft`, `dpo`.
        per_step: The setting that says how many examples a step has, over all processes; it may be None.

    Raises:
        InputError: the processes and micro-batches do not divide a step, or bf16 is missing.

    """
    require_plots()
    quiet_libraries()
    settings = take_recorded(settings)
    run = choose_run_folder(settings.output_dir, kind, as_given(settings), resume=settings.resume)
    accelerator = make_accelerator("auto", settings.log_with, run.path)  # the engine sees to the precision
    number = getattr(settings, per_step)
    if number is not None:
        check_global_batch(number, getattr(settings, "accumulation_steps", None), accelerator.num_processes, per_step)
    expect_precision(settings.precision, accelerator.device)
    return settings, run, accelerator

"""Two processes whose group gives up after 10 s, and a main process that is at work for 20 s.

accelerate launch --config_file FILE tests/scratch_models/waiting_in_processes.py DIR
"""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from scratch_models.launch.launched_process import join_launch
from scratch_models.launch.waiting import main_process_first, wait_for_all
from scratch_models.loop.devices import make_accelerator, sum_over_processes

TIMEOUT_SECONDS, WORK_SECONDS = 10, 20


def main(folder: Path) -> None:
    os.environ |= join_launch()
    distributed.init_process_group("gloo", timeout=timedelta(seconds=TIMEOUT_SECONDS))
    accelerator = make_accelerator("fp32")
    cache = folder / "cache"
    with main_process_first(accelerator):
        found = cache.exists()
        if not found:
            time.sleep(WORK_SECONDS)
            cache.write_text("made")
    seen = sum_over_processes([float(found)], accelerator)
    if accelerator.is_main_process:  # as where it alone asks a model
        time.sleep(WORK_SECONDS)
    wait_for_all(accelerator)
    arrived = torch.tensor([1.0])
    distributed.all_reduce(arrived)
    if accelerator.is_main_process:
        (folder / "result.txt").write_text(f"{seen} {arrived.tolist()}")
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

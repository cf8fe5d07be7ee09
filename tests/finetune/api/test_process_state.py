"""What a call leaves of itself in the process: nothing, whether it succeeds or not."""

import os
import subprocess
import sys
import warnings

import pytest
import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

from configs import InputError
from finetune import finetune
from tests.finetune.entry_runs import SMALL
from tests.finetune.tiny_models import questions, save_tiny_base
from tests.house.repository import ROOT

ROWS = [{"question": asked, "answer": answer} for asked, answer in questions(100)]
SHORT = {**SMALL, "max_steps": 2, "checkpoint_steps": 0, "precision": "fp32"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_base(tmp_path_factory.mktemp("base"))


def _state():
    return {
        "environment": dict(os.environ),
        "threads": torch.get_num_threads(),
        "random": torch.get_rng_state().tolist(),
        "accelerator": dict(AcceleratorState._shared_state),
        "processes": dict(PartialState._shared_state),
        "verbosity": transformers.logging.get_verbosity(),
        "bars": transformers.logging.is_progress_bar_enabled(),
        "warnings": list(warnings.filters),
        "gradients": torch.is_grad_enabled(),
    }


@pytest.mark.long
def test_two_runs_and_one_that_fails_between_them_leave_the_process_as_they_found_it(base, tmp_path):
    before = _state()
    first = finetune(base, ROWS, **SHORT, output_dir=tmp_path / "first")
    assert _state() == before
    with pytest.raises(InputError, match="none of 95 conversations fits"):  # once the base is loaded
        finetune(base, [{"question": f"{n} " + "and " * 90, "answer": "so " * 9} for n in range(100)], **SHORT)
    assert _state() == before
    second = finetune(base, ROWS, **SHORT, output_dir=tmp_path / "second")
    second.chat("What?", reply_tokens=2)
    assert _state() == before
    same = ("step", "loss_nats", "gradient_norm", "held_out_loss_nats")
    left, right = ([[line.get(name) for name in same] for line in run.metrics] for run in (first, second))
    assert left == right


def test_an_accelerator_of_the_caller_stays_as_it_is(base, tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)  # whatever ran before in this process left one
    try:
        accelerator = Accelerator(cpu=True, mixed_precision="bf16")
        finetune(base, ROWS, **SHORT, output_dir=tmp_path / "run")
        assert accelerator.mixed_precision == AcceleratorState().mixed_precision == "bf16"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


FREED = """
import sys, psutil, torch
from finetune import finetune
run = finetune(sys.argv[1], [{"question": f"Number {n}?", "answer": "Yes."} for n in range(40)], max_steps=1,
               evaluation_conversations=2, reply_tokens=2, output_dir=sys.argv[2])
memory = psutil.Process().memory_info
before = memory().rss
large = [torch.ones(2**24) for _ in range(5)]  # 64 MiB each: smaller blocks stay where a live one lies above them
held = memory().rss
del large
print("MiB:", (held - before) >> 20, (memory().rss - before) >> 20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is asked to keep memory on Linux alone")
@pytest.mark.long
def test_memory_that_is_freed_after_a_run_goes_back_to_the_system(base, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", FREED, str(base), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stderr
    held, left = map(int, ended.stdout.splitlines()[-1].split()[1:])
    assert held > 250 and left < 100


def test_importing_the_package_and_its_names_loads_nothing_heavy():
    heavy = ("torch", "transformers", "peft", "accelerate", "matplotlib", "datasets", "gradio")
    program = f"import sys\nfrom finetune import finetune, open_run, prefer\nprint(*(set({heavy}) & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (ended.stdout.strip(), ended.stderr) == ("", "")

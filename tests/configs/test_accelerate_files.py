"""Each file in configs/accelerate starts the number of processes that its name says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig

from tests.house.repository import ROOT

FILES = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))

SUM_OF_RANKS = """
import os, sys, torch
from accelerate import Accelerator
accelerator = Accelerator(cpu=not torch.accelerator.is_available())
ranks = accelerator.gather(torch.tensor([accelerator.process_index], device=accelerator.device)).tolist()
if accelerator.is_main_process:
    backend = torch.distributed.get_backend()
    open(sys.argv[1], "w").write(f"{ranks} {accelerator.device.type} {backend}")
accelerator.end_training()
"""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_knows_every_key(file):
    config = ClusterConfig.from_yaml_file(file)
    assert config.num_processes == (1 if file.stem.startswith("one_") else 2)
    assert config.num_machines == (2 if file.stem == "two_machines" else 1)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_header_is_the_command(file):
    command = rf"# accelerate launch --config_file {re.escape(str(file.relative_to(ROOT)))} (?:--\w+ \S+ )?(\S+\.py)"
    match = re.fullmatch(command, file.read_text().splitlines()[0])
    assert match and (ROOT / match[1]).parent.is_dir()


@pytest.mark.long
def test_two_launches_at_once_both_run_and_never_join_one_group(tmp_path: Path):
    """huggingface/accelerate#3175, #1785: a port that is taken, and port 0 that is waited for for ever."""
    script = tmp_path / "sum_of_ranks.py"
    script.write_text(SUM_OF_RANKS)
    config = ROOT / "configs" / "accelerate" / "two_cpu_processes.yaml"
    accelerate = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(config)]
    results = [tmp_path / f"{number}.txt" for number in range(3)]
    launched = [
        subprocess.Popen([*accelerate, str(script), str(result)], stderr=subprocess.PIPE, text=True)
        for result in results
    ]
    said = [one.communicate(timeout=200)[1] for one in launched]
    assert [one.returncode for one in launched] == [0] * 3, said
    assert {result.read_text() for result in results} == {"[0, 1] cpu gloo"}


@pytest.mark.long
def test_two_processes_run_on_the_cpu_and_reach_each_other(tmp_path: Path):
    script, result = tmp_path / "sum_of_ranks.py", tmp_path / "result.txt"
    script.write_text(SUM_OF_RANKS)
    config = ROOT / "configs" / "accelerate" / "two_cpu_processes.yaml"
    accelerate = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(config)]
    port = ["--main_process_port", "0"]  # any free one: tests run beside each other
    ended = subprocess.run(
        [*accelerate, *port, str(script), str(result)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    assert result.read_text() == "[0, 1] cpu gloo"

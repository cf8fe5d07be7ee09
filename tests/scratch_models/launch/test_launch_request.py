"""Whatever accelerate's launcher is told is done, or refused in one line; it says itself what a script gets to see.

huggingface/accelerate#1133, huggingface/diffusers#1272: a flag, or a `default_config.yaml` of long ago, that a script
overrides without a word.
"""

import os
import subprocess
import sys

import pytest
import torch
import yaml
from accelerate.commands import launch as accelerate_launch
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

from configs import InputError
from scratch_models.launch.launch_request import asked_of_launcher, launched_precision, refuse_launch
from scratch_models.loop.precision import expect_precision
from tests.house.repository import ROOT

CPU = torch.device("cpu")
PLAIN = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "NO",
    "num_processes": 1,
    "num_machines": 1,
    "machine_rank": 0,
    "mixed_precision": "no",
    "use_cpu": True,
}


@pytest.fixture
def launch(monkeypatch, tmp_path):
    """Sets the environment that a script has under `accelerate launch` with some flags, or a default_config.yaml."""

    def launch(*flags, config=None):
        file = tmp_path / "default_config.yaml"
        if config is not None:
            file.write_text(yaml.safe_dump({**PLAIN, **config}))
        monkeypatch.setattr(accelerate_launch, "default_config_file", str(file))
        monkeypatch.setattr("accelerate.commands.config.config_args.default_config_file", str(file))
        parser = accelerate_launch.launch_command_parser()
        args, _, _ = accelerate_launch._validate_launch_command(parser.parse_args([*flags, "finetune/sft.py"]))
        several = args.multi_gpu or args.use_fsdp
        environment = prepare_multi_gpu_env(args) if several else prepare_simple_launcher_cmd_env(args)[1]
        for name in {name for name in os.environ if name.startswith(("ACCELERATE_", "FSDP_"))} - {*environment}:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return launch


def _refusal(call, *arguments):
    with pytest.raises(InputError) as refused:
        call(*arguments)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("asked", [{"flags": ()}, {"config": {}}], ids=["no flag", "a plain default_config.yaml"])
def test_a_plain_launch_is_served(launch, asked):
    launch(*asked.get("flags", ()), config=asked.get("config"))
    refuse_launch()
    assert launched_precision() is None


BF16 = [{"flags": ("--mixed_precision", "bf16")}, {"config": {"mixed_precision": "bf16"}}]


@pytest.mark.parametrize("asked", BF16, ids=["flag", "default_config.yaml"])
def test_bf16_of_a_launch_is_what_auto_becomes_and_contradicts_fp32(launch, asked, monkeypatch):
    launch(*asked.get("flags", ()), config=asked.get("config"))
    monkeypatch.setattr("scratch_models.loop.precision.has_bf16", lambda device: True)
    refuse_launch()
    assert launched_precision() == "bf16"
    for precision in ("auto", "bf16"):
        expect_precision(precision, CPU)
    assert _refusal(expect_precision, "fp32", CPU).startswith("precision: found fp32, but this launch asks for")


@pytest.mark.parametrize("asked", [{"flags": ("--mixed_precision", "fp16")}, {"config": {"mixed_precision": "fp16"}}])
def test_fp16_of_a_launch_is_refused(launch, asked):
    launch(*asked.get("flags", ()), config=asked.get("config"))
    said = _refusal(expect_precision, "auto", CPU)
    assert "default_config.yaml) asks for mixed_precision fp16, expected bf16 or no" in said


SHARDED = {"distributed_type": "FSDP", "num_processes": 2, "gpu_ids": "-1,-1"}
UNSERVED = {
    "dynamo flag": ({"flags": ("--dynamo_backend", "inductor")}, "asks for dynamo_backend inductor, expected no: "),
    "dynamo file": ({"config": {"dynamo_config": {"dynamo_backend": "INDUCTOR"}}}, "asks for dynamo_backend inductor"),
    "parallelism file": (
        {
            "config": {
                **SHARDED,
                "fsdp_config": {"fsdp_version": 2},
                "parallelism_config": {"parallelism_config_tp_size": 2},
            }
        },
        "asks for a parallelism_config with tp_size, which the training loop does not drive, expected",
    ),
    "offloading file": (
        {"config": {**SHARDED, "fsdp_config": {"fsdp_version": 2, "fsdp_offload_params": True}}},
        "fsdp_offload_params: found true where there is no GPU, on which it would keep slices",
    ),
    "checkpointing file": (
        {"config": {**SHARDED, "fsdp_config": {"fsdp_version": 2, "fsdp_activation_checkpointing": True}}},
        "asks for fsdp_activation_checkpointing, which the training loop does not drive: pass --gradient_checkpointing",
    ),
}


@pytest.mark.parametrize(("asked", "said"), UNSERVED.values(), ids=UNSERVED)
def test_what_the_loop_cannot_serve_is_refused(launch, asked, said):
    launch(*asked.get("flags", ()), config=asked.get("config"))
    assert said in _refusal(refuse_launch)


VARIABLES = {
    "ACCELERATE_USE_DEEPSPEED": "asks for DeepSpeed, which the training loop does not drive: launch with",
    "ACCELERATE_USE_MEGATRON_LM": "asks for Megatron-LM, which",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "asks for a parallelism_config without FSDP, which",
}


@pytest.mark.parametrize(("variable", "said"), VARIABLES.items(), ids=VARIABLES)
def test_a_variable_of_the_environment_counts_as_much(monkeypatch, variable, said):
    monkeypatch.setenv(variable, "true")
    assert said in _refusal(refuse_launch)


def test_accumulation_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    said = _refusal(refuse_launch)
    assert "asks for gradient_accumulation_steps 4, which reaches DeepSpeed alone: pass --accumulation_steps" in said
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    refuse_launch()


@pytest.mark.parametrize(
    "command",
    [
        ["python", "/bin/accelerate", "launch", "--gradient_accumulation_steps", "4", "finetune/sft.py"],
        ["python", "/bin/accelerate-launch", "--cpu", "--gradient-accumulation-steps=4", "finetune/sft.py"],
        ["python", "-m", "accelerate.commands.launch", "--gradient_accumulation_steps", "4", "-m", "finetune.sft"],
        ["python", "/x/accelerate/commands/accelerate_cli.py", "launch", "--gradient_accumulation_steps=4", "sft.py"],
        ["python", "/x/accelerate/commands/launch.py", "--gradient_accumulation_steps=4", "sft.py"],
    ],
)
def test_the_flags_of_every_way_to_start_the_launcher_are_read(command):
    assert asked_of_launcher(command) == {"gradient_accumulation_steps": "4"}


@pytest.mark.parametrize(
    "command",
    [
        ["bash", "-c", "accelerate launch --gradient_accumulation_steps 4 sft.py"],
        ["python", "/bin/accelerate", "launch", "sft.py", "--gradient_accumulation_steps", "4"],
        ["python", "sft.py", "--gradient_accumulation_steps", "4"],
        [],
    ],
)
def test_what_is_said_to_another_program_is_no_flag_of_the_launcher(command):
    assert asked_of_launcher(command) == {}


@pytest.mark.long
@pytest.mark.parametrize("several", [(), ("--config_file", str(ROOT / "configs/accelerate/two_cpu_processes.yaml"))])
def test_a_flag_that_accelerate_drops_is_refused_once(tmp_path, several):
    flags = (
        (*several, "--gradient_accumulation_steps", "4") if several else ("--cpu", "--gradient_accumulation_steps=4")
    )
    command = ["-m", "accelerate.commands.accelerate_cli", "launch", *flags, str(ROOT / "scratch_models/train.py")]
    settings = ["--config", str(ROOT / "configs/bigram.yaml"), "--data", str(tmp_path / "text.txt")]
    (tmp_path / "text.txt").write_text("to be or not to be\n" * 200)
    ended = subprocess.run([sys.executable, *command, *settings], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode != 0
    assert ended.stderr.count("asks for gradient_accumulation_steps 4, which reaches DeepSpeed alone") == 1
    assert not (tmp_path / "runs").exists()

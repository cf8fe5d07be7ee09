import os

import pytest

from configs import InputError
from scratch_models.loop.devices import make_accelerator, sum_over_processes
from scratch_models.loop.sharding import wants_sharding


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "asks for DeepSpeed, .* launch with configs/accelerate/gpus_fsdp2.yaml"),
        (
            {"ACCELERATE_USE_FSDP": "true", "FSDP_OFFLOAD_PARAMS": "true"},
            "fsdp_offload_params: found true, .* to false",
        ),
    ],
    ids=["DeepSpeed", "offloading"],
)
def test_a_launch_that_the_loop_cannot_serve_is_refused_in_one_line(monkeypatch, environment: dict, said: str):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said) as refused:
        make_accelerator("fp32")
    assert "\n" not in str(refused.value)


def test_every_process_loads_the_base_itself(monkeypatch):
    # Where this is true, transformers gives all processes but the first empty weights.
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    make_accelerator("fp32")
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"


def test_one_process_alone_neither_shards_nor_waits_for_others(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    accelerator = make_accelerator("fp32")
    assert not wants_sharding(accelerator)
    assert sum_over_processes([1.5, 2.0], accelerator) == [1.5, 2.0]

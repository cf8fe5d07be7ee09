import os

from scratch_models.loop.devices import make_accelerator, sum_over_processes
from scratch_models.loop.sharding import wants_sharding


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

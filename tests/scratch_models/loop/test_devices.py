import os

import pytest

from configs import InputError
from scratch_models.loop.devices import make_accelerator, make_mesh, sum_over_processes
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


@pytest.mark.parametrize(("replicas", "shards"), [("2", "1"), ("0", "1"), ("1", "2"), ("2", "2")])
def test_a_plan_with_fewer_processes_than_shards_is_refused(monkeypatch, replicas: str, shards: str):
    monkeypatch.setenv("PARALLELISM_CONFIG_DP_REPLICATE_SIZE", replicas)
    monkeypatch.setenv("PARALLELISM_CONFIG_DP_SHARD_SIZE", shards)
    with pytest.raises(InputError, match=rf"found {replicas} replicas of \d shards in 1 processes, expected"):
        make_mesh(make_accelerator("fp32"))

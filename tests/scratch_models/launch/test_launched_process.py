"""What the variables of torchrun and Slurm come to, and what of them is refused; Slurm's are those of its manuals."""

import os

import pytest

from configs import InputError
from configs.one_line_ending import is_main_process
from scratch_models.launch.launched_process import first_host, join_launch, slurm_step, threads_here
from scratch_models.loop.devices import make_accelerator

TASK = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_NODELIST": "gpu[007-008]",
}
BATCH = {"SLURM_JOB_ID": "4711", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}
"""What a batch script has, which runs once whatever the number of tasks."""
TORCHRUN = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "node",
    "MASTER_PORT": "29500",
}
ELASTIC = {**TORCHRUN, "TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_MAX_RESTARTS": "0"}


def test_a_task_of_srun_gets_torchs_variables():
    found = join_launch(TASK)
    assert 1024 < int(found.pop("MASTER_PORT")) < 32768
    assert found == {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "gpu007",
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.parametrize("environment", [{}, ELASTIC, TORCHRUN, {"RANK": "0", "WORLD_SIZE": "1"}, {**TASK, **ELASTIC}])
def test_what_a_launcher_has_said_is_left_as_it_is(environment):
    assert join_launch(environment) == {}


@pytest.mark.parametrize("alone", ["batch", "interactive", "one task"])
def test_an_allocation_of_one_task_is_no_launch(alone):
    given = {
        "batch": {**BATCH, "SLURM_NTASKS": "1"},
        "interactive": {**BATCH, "SLURM_NTASKS": "1", "SLURM_STEP_ID": "4294967290"},
        "one task": {**TASK, "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
    }[alone]
    assert slurm_step(given) is None and join_launch(given) == {}


def test_a_launcher_inside_an_allocation_is_believed():
    assert join_launch({**BATCH, **ELASTIC}) == {}
    assert join_launch(BATCH, launcher="accelerate launch") == {}


def test_steps_on_one_machine_meet_at_ports_of_their_own():
    steps = [{**TASK, "SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)} for job in (1, 2, 999) for step in (0, 1)]
    assert len({join_launch(step)["MASTER_PORT"] for step in steps}) == len(steps)
    both = [join_launch({**TASK, "SLURM_PROCID": rank})["MASTER_PORT"] for rank in "03"]
    assert both[0] == both[1]


def test_where_to_meet_may_be_given():
    found = join_launch({**TASK, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"})
    assert "MASTER_ADDR" not in found and "MASTER_PORT" not in found and found["RANK"] == "3"


REFUSED = {
    "other world": ({**TASK, "WORLD_SIZE": "2"}, "WORLD_SIZE: found 2, but Slurm says 4 of this task"),
    "other rank": ({**TASK, "RANK": "0"}, "RANK: found 0, but Slurm says 3"),
    "no way to meet": ({**TASK, "SLURM_STEP_NODELIST": ""}, "SLURM_STEP_NODELIST: names no host, but 4 tasks on 2"),
    "no srun": (BATCH, "SLURM_NTASKS: found 4, but srun did not start this process"),
    "no rank": ({"WORLD_SIZE": "2"}, "RANK: missing beside WORLD_SIZE 2"),
    "no local rank": ({**TORCHRUN, "LOCAL_RANK": ""}, "LOCAL_RANK: missing beside WORLD_SIZE 2"),
    "no address": ({**TORCHRUN, "MASTER_ADDR": ""}, "MASTER_ADDR: missing beside WORLD_SIZE 2"),
    "rank too high": ({**TORCHRUN, "RANK": "2"}, "RANK and WORLD_SIZE: found 2 and 2"),
    "rank alone": ({"RANK": "1"}, "RANK and WORLD_SIZE: found 1 and 1"),
    "no number": ({**TORCHRUN, "WORLD_SIZE": "two"}, "WORLD_SIZE: found 'two', expected a whole number"),
    "no port": ({**TORCHRUN, "MASTER_PORT": "0"}, "MASTER_PORT: found 0, expected a port"),
    "restarts": ({**ELASTIC, "TORCHELASTIC_MAX_RESTARTS": "3"}, "max_restarts: found 3, but the same command anew"),
}


@pytest.mark.parametrize(("environment", "said"), REFUSED.values(), ids=REFUSED)
def test_a_launch_that_contradicts_itself_is_refused_in_one_line(environment, said):
    with pytest.raises(InputError) as refused:
        join_launch(environment)
    assert str(refused.value).startswith(said) and "\n" not in str(refused.value)


def test_one_launcher_in_each_task_is_refused():
    with pytest.raises(InputError, match="accelerate launch started 1 process in each of 4 tasks of Slurm"):
        join_launch(TASK, launcher="accelerate launch")


def test_the_entries_refuse_it_before_anything_is_read(monkeypatch):
    before = dict(os.environ)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="RANK: missing"):
        make_accelerator("fp32")
    monkeypatch.undo()
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("lone", "lone"),
        ("a1,b2", "a1"),
        ("tux[0-3,7],big", "tux0"),
        ("rack[02-03]n[1,5]", "rack02n1"),
        ("x[1-2]-ib,y", "x1-ib"),
        ("", None),
    ],
)
def test_the_first_of_slurms_hosts(hosts, first):
    assert first_host(hosts) == first


@pytest.mark.parametrize(("tasks", "node", "expected"), [("2(x3),1", 3, "1"), ("3,1", 0, "3"), ("", 0, "2")])
def test_the_tasks_of_a_node_are_counted_as_slurm_writes_them(tasks, node, expected):
    given = {**TASK, "SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_NODEID": str(node)}
    assert join_launch(given)["LOCAL_WORLD_SIZE"] == expected


def test_a_process_takes_its_share_of_the_cores():
    assert threads_here({**TASK, "SLURM_CPUS_PER_TASK": "6"}, cores=8, processes=4) == 6
    assert threads_here({**TASK, "SLURM_CPUS_PER_TASK": "6"}, cores=4, processes=4) == 4, "what it is bound to"
    assert threads_here({**TASK, "LOCAL_WORLD_SIZE": "2"}, cores=8, processes=4) == 4
    assert threads_here(TORCHRUN, cores=1, processes=2) == 1


@pytest.mark.parametrize(
    ("environment", "speaks"), [({}, True), (TASK, False), (TORCHRUN, False), ({**TASK, "RANK": "0"}, True)]
)
def test_only_the_first_process_says_what_all_would(monkeypatch, environment, speaks):
    for name in {*TASK, *TORCHRUN}:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_main_process() == speaks

"""The process among those of its launch, by the variables of torchrun or by those of Slurm, put into torchrun's words.

torch reads RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT
(https://docs.pytorch.org/docs/2.13/distributed.html#environment-variable-initialization). torchrun sets all of them and
`accelerate launch` starts torchrun; srun sets variables of its own (https://slurm.schedmd.com/srun.html#SECTION_OUTPUT-ENVIRONMENT-VARIABLES).
"""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from configs import InputError

LOCAL_HOST = "127.0.0.1"
FIRST_PORT, PORTS, STEPS_OF_A_JOB = 10_000, 22_000, 8
"""Below those that Linux gives to whoever asks for any, from 32768 on."""
LARGEST_STEP = 0xFFFF_FF00
"""From here on a step of Slurm's is the batch script itself, or the shell of an allocation."""
FIRST_HOST = re.compile(r"(?P<name>[^,\[\]]*)(?:\[(?P<number>\d+)[^\]]*\])?")


class SlurmStep(NamedTuple):
    """A command that srun started in several tasks, as one of them sees it."""

    rank: int
    tasks: int
    local_rank: int
    local_tasks: int
    nodes: int
    hosts: str
    """In Slurm's short form, such as `gpu[01-03],big7`."""
    job: int
    number: int
    """Of the step in its job."""


def join_launch(environment: Mapping[str, str] | None = None, *, launcher: str | None = None) -> dict[str, str]:
    """What the environment lacks for this process to find the others of its launch; nothing where it is alone.

    >>> task = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1"}
    >>> join_launch(task | {"SLURM_JOB_ID": "7", "SLURM_NNODES": "1"})["MASTER_ADDR"]
    '127.0.0.1'

    Args:
        environment: Of this process.
        launcher: What started it, where that is no shell and no srun: `accelerate launch`.

    Raises:
        InputError: variables contradict each other, or do not say where the processes meet.

    """
    given = os.environ if environment is None else environment
    if "TORCHELASTIC_RUN_ID" in given:  # torchrun says all of it
        _refuse_restarts(given)
        return {}
    step = slurm_step(given)
    if step is None:
        _refuse_tasks_without_srun(given, launcher)
        _check_variables(given)
        return {}
    if launcher is not None:
        raise InputError(
            f"{launcher} started 1 process in each of {step.tasks} tasks of Slurm, expected one launcher of processes: "
            "put srun before python alone, or run one task on each machine and give the launcher their number"
        )
    said = _said_by_slurm(step, given)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        if given.get(name, said[name]) != said[name]:
            raise InputError(
                f"{name}: found {given[name]}, but Slurm says {said[name]} of this task: leave it out, srun is enough"
            )
    _check_variables({**said, **given})
    return {name: value for name, value in said.items() if name not in given}


def slurm_step(environment: Mapping[str, str]) -> SlurmStep | None:
    """The step of several tasks that this process is one of; None where it is none of srun's, or the only one.

    Raises:
        InputError: a variable of Slurm's is no number.

    """
    number = _number(environment, "SLURM_STEP_ID", "SLURM_STEPID", default=LARGEST_STEP)
    tasks = _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS", default=1)
    if number >= LARGEST_STEP or tasks < 2 or "SLURM_PROCID" not in environment:
        return None
    nodes = _number(environment, "SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES", default=1)
    node = _number(environment, "SLURM_NODEID", default=0)
    on_each = environment.get("SLURM_STEP_TASKS_PER_NODE", environment.get("SLURM_TASKS_PER_NODE", ""))
    return SlurmStep(
        rank=_number(environment, "SLURM_PROCID", default=0),
        tasks=tasks,
        local_rank=_number(environment, "SLURM_LOCALID", default=0),
        local_tasks=_tasks_of(node, on_each) or -(-tasks // nodes),
        nodes=nodes,
        hosts=environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST", "")),
        job=_number(environment, "SLURM_JOB_ID", "SLURM_JOBID", default=0),
        number=number,
    )


def first_host(hosts: str) -> str | None:
    """The first of Slurm's list of hosts; None where it names none.

    >>> first_host("gpu[01-03,07],big7"), first_host("r[1-2]n[3-4]"), first_host("one,two"), first_host("")
    ('gpu01', 'r1n3', 'one', None)
    """
    found = ""
    for match in FIRST_HOST.finditer(hosts):
        found += match["name"] + (match["number"] or "")
        if hosts[match.end() : match.end() + 1] in ("", ","):
            break
    return found or None


def threads_here(environment: Mapping[str, str], cores: int, processes: int) -> int:
    """Threads for each process of a CPU launch: its share of the cores that it may use.

    >>> threads_here({"LOCAL_WORLD_SIZE": "2"}, cores=8, processes=4), threads_here({}, cores=8, processes=4)
    (4, 2)
    """
    if "SLURM_CPUS_PER_TASK" in environment and slurm_step(environment) is not None:
        return max(1, min(cores, _number(environment, "SLURM_CPUS_PER_TASK", default=1)))
    return max(1, cores // _number(environment, "LOCAL_WORLD_SIZE", default=processes))


def _said_by_slurm(step: SlurmStep, given: Mapping[str, str]) -> dict[str, str]:
    """Slurm's words in torch's, and one thread, as torchrun has it, until the loop shares the cores out."""
    host = given.get("MASTER_ADDR") or (LOCAL_HOST if step.nodes == 1 else first_host(step.hosts))
    if host is None:
        raise InputError(
            f"SLURM_STEP_NODELIST: names no host, but {step.tasks} tasks on {step.nodes} nodes have to meet: export "
            'MASTER_ADDR="$(scontrol show hostnames | head -n 1)" before srun'
        )
    # Any number that all tasks come to; steps that run at once on one machine come to different ones.
    port = FIRST_PORT + (step.job * STEPS_OF_A_JOB + step.number % STEPS_OF_A_JOB) % PORTS
    return {
        "RANK": str(step.rank),
        "WORLD_SIZE": str(step.tasks),
        "LOCAL_RANK": str(step.local_rank),
        "LOCAL_WORLD_SIZE": str(step.local_tasks),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def _check_variables(given: Mapping[str, str]) -> None:
    """Refuses what is there of torch's variables where it is not enough, or no process could have it."""
    world_size, rank = (_number(given, name, default=one) for name, one in (("WORLD_SIZE", 1), ("RANK", 0)))
    if world_size < 1 or not 0 <= rank < world_size:
        raise InputError(
            f"RANK and WORLD_SIZE: found {rank} and {world_size}, expected a rank from 0 to below the number of "
            "processes: leave both to torchrun, srun or accelerate launch"
        )
    needed = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in needed if not given.get(name)] if world_size > 1 else []
    if missing:
        raise InputError(
            f"{missing[0]}: missing beside WORLD_SIZE {world_size}, so the processes could not meet: start them with "
            "torchrun, srun or accelerate launch, or unset WORLD_SIZE to train in one"
        )
    _number(given, "LOCAL_RANK", default=0)
    if world_size > 1 and not 0 < _number(given, "MASTER_PORT", default=1) < 2**16:
        raise InputError(f"MASTER_PORT: found {given['MASTER_PORT']}, expected a port from 1 to 65535")


def _refuse_tasks_without_srun(given: Mapping[str, str], launcher: str | None) -> None:
    """One process in an allocation for several would leave the rest of it idle."""
    tasks = _number(given, "SLURM_NTASKS", "SLURM_NPROCS", default=1)
    number = _number(given, "SLURM_STEP_ID", "SLURM_STEPID", default=LARGEST_STEP)
    if tasks > 1 and number >= LARGEST_STEP and launcher is None and "WORLD_SIZE" not in given:
        raise InputError(
            f"SLURM_NTASKS: found {tasks}, but srun did not start this process, which would train alone: put srun "
            "before the command, or ask Slurm for --ntasks 1"
        )


def _refuse_restarts(given: Mapping[str, str]) -> None:
    """A launcher that starts the very command again would begin another run, not go on with this one."""
    restarts = _number(given, "TORCHELASTIC_MAX_RESTARTS", default=0)
    if restarts > 0:
        raise InputError(
            f"max_restarts: found {restarts}, but the same command anew would begin another run: leave it out, and "
            "start the command again with --resume true, as the scripts in configs/launch/ do"
        )


def _number(environment: Mapping[str, str], *names: str, default: int) -> int:
    """The first of the variables that is set."""
    for name in names:
        if (value := environment.get(name, "")) != "":
            try:
                return int(value)
            except ValueError:
                raise InputError(f"{name}: found {value!r}, expected a whole number: unset it") from None
    return default


def _tasks_of(node: int, on_each: str) -> int | None:
    """The tasks of a node, counted from 0, in Slurm's list such as `2(x3),1`; None where the list does not reach it."""
    tasks: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", on_each):
        tasks += [int(count)] * int(times or 1)
    return tasks[node] if node < len(tasks) else None

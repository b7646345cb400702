"""Which process of how many this is: what a launcher says in the environment.

    torchrun       RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT
    srun           SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID, SLURM_STEP_NODELIST, SLURM_JOB_ID
    a Slurm array  SLURM_ARRAY_TASK_ID, _MIN, _STEP, _COUNT, with MASTER_ADDR: tasks that meet. Without an address
                   to meet at they are runs of their own

The first that is complete is taken. MASTER_ADDR and MASTER_PORT hold wherever they are set; otherwise srun's
processes meet on the first host of their step, at a port that follows from the number of the job.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from polykern.errors import UsageError

PORTS = range(29_500, 32_768)  # below those that systems give out by themselves


@dataclass(frozen=True, slots=True)
class Launch:
    """The place of a process among those that were started together.

    rank     0 ... size - 1
    size     processes
    local    place among those of the same host
    address  host where they meet; "" of a process alone
    port     0 of a process alone
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    address: str = ""
    port: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0


def launch(environment: Mapping[str, str] | None = None) -> Launch:
    """The place of this process.

    environment  variables; None takes those of the process

    Errors: UsageError for variables that contradict each other.
    """
    told = os.environ if environment is None else environment
    if "RANK" in told and "WORLD_SIZE" in told:
        return _launch(told, "RANK", "WORLD_SIZE", "LOCAL_RANK")
    if "SLURM_PROCID" in told and "SLURM_STEP_NUM_TASKS" in told:
        return _launch(told, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    if "SLURM_ARRAY_TASK_ID" in told and "MASTER_ADDR" in told:
        return _placed(told, *_task(told), 0)
    return Launch()


def apart(environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """Number and count of the tasks of a Slurm array that do not meet, each of which may hold a launch of its own.

    environment  variables; None takes those of the process

    (0, 1) where there is no array, or its tasks meet. Errors: UsageError for variables that contradict each other.
    """
    told = os.environ if environment is None else environment
    if "SLURM_ARRAY_TASK_ID" not in told or ("MASTER_ADDR" in told and "RANK" not in told):
        return 0, 1
    task, tasks = _task(told)
    if not 0 <= task < tasks:
        raise UsageError(f"task {task} of {tasks}", why="the variables of the array contradict each other")
    return task, tasks


def processes() -> int:
    """How many processes divide a run that needs no meeting: those of this launch in every task of an array."""
    return launch().size * apart()[1]


def _task(told: Mapping[str, str]) -> tuple[int, int]:
    least, step = _number(told, "SLURM_ARRAY_TASK_MIN", 0), _number(told, "SLURM_ARRAY_TASK_STEP", 1)
    place = (_number(told, "SLURM_ARRAY_TASK_ID") - least) // max(step, 1)
    return place, _number(told, "SLURM_ARRAY_TASK_COUNT", 1)


def _launch(told: Mapping[str, str], rank: str, size: str, local: str) -> Launch:
    return _placed(told, _number(told, rank), _number(told, size), _number(told, local, 0))


def _placed(told: Mapping[str, str], rank: int, size: int, local: int) -> Launch:
    if not 0 <= rank < size:
        raise UsageError(f"process {rank} of {size}", why="the variables of the launcher contradict each other")
    if size == 1:
        return Launch()
    job = _number(told, "SLURM_JOB_ID", 0)
    address = told.get("MASTER_ADDR") or first_host(told.get("SLURM_STEP_NODELIST", ""))
    port = _number(told, "MASTER_PORT", PORTS[job % len(PORTS)])
    if not address:
        raise UsageError(
            f"{size} processes and no place to meet",
            fix="start them with torchrun, or set MASTER_ADDR and MASTER_PORT",
        )
    return Launch(rank, size, local, address, port)


def first_host(nodes: str) -> str:
    """The first host of a list as Slurm writes it: "n7" of "n[7-9,12],m1"."""
    found = re.match(r"([^\[,]*)(?:\[(\d+)[^\]]*\]([^,\[]*))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else ""


def _number(told: Mapping[str, str], name: str, otherwise: int | None = None) -> int:
    word = told.get(name, "")
    if not word and otherwise is not None:
        return otherwise
    if not word.isdecimal():
        raise UsageError(f"{name}={word!r} is no number", why="a launcher sets it for each of its processes")
    return int(word)

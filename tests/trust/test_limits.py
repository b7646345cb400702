"""Little memory: a budget is kept; where the system gives less, it is said in one error, and nothing is lost."""

import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.driven import driven
from tests.engine import clustered
from tests.trust.jobs import JOBS, Job, left
from tests.trust.ledger import SCALE, scaled, trial

STARVED, KEPT = "R7 memory of the process: same bytes or exit code 4", "R7 memory budget: kept"
Carry = Callable[..., dict[str, Any]]
HEAT = "heatmap --model {in}/nets.py:broad --no-figures --no-viewer --device cpu --out {out} --engine"
LARGE = (
    Job("heatmap", f"{HEAT} float32 --resolution 100", again="resumes"),
    Job("tiles", f"{HEAT} tiles --resolution 64", again="resumes"),
    Job("anchored", f"{HEAT} anchored --resolution 100", again="resumes"),
    Job("capture", JOBS["capture"].words.replace("4KiB", "256KiB"), again="resumes"),
    Job("cluster", "cluster {large} --min-cluster-size 9 --device cpu --out {out}", again="resumes"),
    *(JOBS[name] for name in ("partition", "spectrum", "embeddings", "report")),
)
MORE = 1  # MiB by which two children of one process differ before they begin
TODAY = [job for job in LARGE if SCALE > 1 or job.name in ("capture", "cluster")]
ASKED = ("capture", "cluster", "heatmap", "anchored")  # jobs that take a budget
BUDGETED = [job for job in LARGE if job.name in ASKED[: 1 + SCALE]]


@pytest.fixture(scope="module")
def carry() -> Iterator[Carry]:
    """carry(words, room) -> how a command ended that had so much memory (tests/trust/starved.py)."""
    # GNU's OpenMP cannot be forked once it has run
    alone = {"NUMBA_THREADING_LAYER": "workqueue", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    environment = {k: v for k, v in os.environ.items() if k != "POLYKERN_MEMORY_BUDGET"} | alone
    with driven("tests.trust.starved", environment, loud=False) as ask:
        yield lambda words, room: ask(words=words, room=room)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that takes megabytes to cluster."""
    folder = tmp_path_factory.mktemp("large") / "codes"
    clustered.store(folder, 3000)
    return folder


@pytest.mark.parametrize("job", TODAY, ids=lambda job: job.name)
def test_a_process_that_is_given_little(carry: Carry, inputs: Path, large: Path, folder: Path, job: Job) -> None:
    rng = random.Random(job.name)
    assert carry([*job.line(inputs, folder / "whole", large=large), "-q"], None)["code"] == 0
    whole = left(folder / "whole")
    rooms = [1 << 20, *(int(2 ** rng.uniform(20, 28)) for _ in range(scaled(2, 100)))]
    for number, room in enumerate(rooms):
        out = folder / str(number)
        with trial(STARVED):
            line = [*job.line(inputs, out, large=large), "-q"]
            ended = carry(line, room)
            said = ended["said"]
            assert ended["code"] in (0, 4), (room, ended)
            if ended["code"] == 4:
                assert said.count("error: ") == 1, said
                assert re.search(r"memory", said), said
                assert "fix: " in said
                assert "Traceback" not in said
                again = () if job.again == "resumes" or not out.exists() else ("--overwrite",)
                assert carry([*line, *again], 0)["code"] == 0
            assert left(out) == whole
        shutil.rmtree(out)


@pytest.mark.parametrize("job", BUDGETED, ids=lambda job: job.name)
def test_a_budget_is_kept(carry: Carry, inputs: Path, large: Path, folder: Path, job: Job) -> None:
    """What the refusal of a smaller budget asks for suffices, and the process takes no more."""
    words = [*job.line(inputs, folder / "out", large=large), "-q"]
    assert carry([*words, "--out", str(folder / "warm")], None)["code"] == 0
    with trial(KEPT):
        refused = carry([*words, "--memory-budget", "1MiB"], 0)
        assert refused["code"] == 4
        asked = re.search(r"--memory-budget (\d+)MiB", refused["said"])
        assert asked, refused
        budget = int(asked[1])
        ended = carry([*words, "--memory-budget", f"{budget + MORE}MiB"], 0)
        assert ended["code"] == 0, ended
        assert ended["peak"] <= budget + MORE << 20, (ended["peak"] >> 20, budget)

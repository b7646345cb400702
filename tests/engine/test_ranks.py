"""Several processes make the bytes that one makes; when one dies the others say so, and a restart ends the same."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polykern.clustering.compute import cluster
from polykern.clustering.lists import merged
from polykern.clustering.panels import Device, Panels, through
from polykern.clustering.result import FILES
from polykern.clustering.space import Packed
from polykern.errors import UsageError
from polykern.launch import Launch, first_host, launch
from polykern.ranks import Ranks
from tests.engine.rank_work import codes, mark, searched
from tests.engine.stores import planted, written
from tests.launched import Ended, begun, ended, together

WORK = str(Path(__file__).with_name("rank_work.py"))
HERE = {"PYTHONPATH": os.pathsep.join(["", *sys.path]).strip(os.pathsep)}
SMALL = ["--min-cluster-size", "8", "--min-samples", "4", "--device", "cpu", "--quiet"]


def said(each: list[Ended]) -> list[Any]:
    """What every rank has printed, once all have ended well."""
    assert [one.code for one in each] == [0] * len(each), each[0].err
    return [json.loads(one.out) for one in each]


@pytest.fixture(scope="module")
def alone() -> Any:
    return said(together(1, [WORK, "moved", "reduced"], HERE))[0]


@pytest.mark.parametrize("size", [2, 3])
def test_what_travels_is_the_same_for_any_number(size: int, alone: Any) -> None:
    assert said(together(size, [WORK, "moved", "reduced"], HERE)) == [alone] * size


@pytest.fixture(scope="module")
def found() -> Any:
    return json.loads(json.dumps(searched(Ranks())))


@pytest.mark.parametrize("size", [2, 3])
def test_lists_counts_trees_and_labels_are_the_same(size: int, found: Any) -> None:
    assert said(together(size, [WORK, "searched"], HERE)) == [[found]] * size


@pytest.mark.parametrize("metric", ["hamming", "jaccard"])
def test_panels_find_what_the_whole_finds(metric: str) -> None:
    words = codes(300)
    whole, parts = Packed(words, metric), Packed(words, metric, through=Device(torch.device("cpu"), 47))
    assert len(Panels.of(words, 5, Ranks(), parts.through)) == 7
    near, who = whole.nearest(5)
    assert mark(near, who) == mark(*parts.nearest(5))
    draw = torch.Generator().manual_seed(3)
    components, cores = torch.randint(0, 4, (300,), generator=draw), near[:, 3]
    rows = torch.randperm(300, generator=draw)[:140]
    for bound in (None, cores[rows] + (1 if metric == "hamming" else 0.01)):
        asked = rows, cores, components, bound
        assert mark(*whole.foreign(*asked)) == mark(*parts.foreign(*asked))


def test_a_device_that_is_too_small_takes_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert through(1000, 384, 16, "cpu", Ranks()) is None
    for free, codes_of_a_panel in ((8 << 30, None), ((3 << 30) + 12 * 384 * 70, 70), (0, 1)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 80 << 30))
        found = through(1000, 384, 16, "cuda", Ranks())
        assert (found and found.codes) == codes_of_a_panel


def test_every_pair_of_panels_is_of_one_rank() -> None:
    given = Panels(codes(90), range(0, 91, 10), torch.device("cpu"))
    for size in (1, 2, 3, 5):
        tiles = [t for rank in range(size) for t in given._tiles(Ranks(Launch(rank, size)))]
        assert sorted(tiles) == [(x, y) for x in range(9) for y in range(x, 9)]


@pytest.mark.parametrize("kind", [torch.int32, torch.float64])
def test_lists_are_put_together_by_distance_and_index(kind: torch.dtype) -> None:
    draw = np.random.default_rng(1)
    near = draw.integers(0, 3, (50, 12))
    who = np.stack([draw.permutation(40)[:12] for _ in range(50)])
    order = np.lexsort((who, near))[:, :7]
    got = merged(torch.from_numpy(near).to(kind), torch.from_numpy(who), 7)
    assert got[0].dtype == kind
    np.testing.assert_array_equal(got[0].numpy(), np.take_along_axis(near, order, 1))
    np.testing.assert_array_equal(got[1].numpy(), np.take_along_axis(who, order, 1))


# --- the command line, and ranks that die ---------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codes") / "some.codes"
    written(folder, planted(1100)[0])
    return folder


def files(folder: Path) -> list[bytes]:
    """The arrays of a clustering."""
    return [(folder / f"{name}.safetensors").read_bytes() for name in FILES]


def test_a_killed_rank_is_named_and_a_restart_ends_with_the_same_bytes(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "clusters"
    command = [WORK, "polykern", "cluster", str(store), "--out", str(out), *SMALL, "--json"]
    torn = together(2, command, HERE)
    assert [one.code for one in torn] == [4, -9]
    assert "error: rank 0 of 2 lost the others" in torn[0].err
    assert json.loads(torn[0].out)["kind"] == "RankLost"
    assert (out / "work" / "lists.safetensors").exists()
    shutil.rmtree(out)

    line = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1"]
    line += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", *command]
    again = ended(begun(line, HERE))
    assert again.code == 0, again.err
    assert sum('"ok": true' in told for told in again.out.splitlines()) == 1  # the first rank speaks
    cluster(store, tmp_path / "alone", min_cluster_size=8, min_samples=4)
    assert files(out) == files(tmp_path / "alone")


def test_rows_that_differ_are_refused(tmp_path: Path) -> None:
    script = tmp_path / "each.py"
    script.write_text(
        "import os, numpy as np\nfrom polykern import HDBSCAN\nfrom polykern.errors import UsageError\n"
        "x = np.eye(40, dtype=bool) ^ (int(os.environ['RANK']) > 0)\n"
        "assert len(HDBSCAN(3, processes='one').fit(x).labels_) == 40\n"
        "try:\n    HDBSCAN(3).fit(x)\nexcept UsageError as error:\n    print(error.what)\n"
    )
    for one in together(2, [str(script)], HERE):
        assert (one.code, one.out) == (0, "the ranks cluster different rows, or differently\n"), one.err


# --- who a process is -------------------------------------------------------------------------------

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "n1", "MASTER_PORT": "1234"}
SRUN = {
    "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "n[07-09,12],m1",
    "SLURM_JOB_ID": "1000",
}  # fmt: skip
ARRAY = {f"SLURM_ARRAY_TASK_{k}": v for k, v in {"ID": "14", "MIN": "10", "STEP": "2", "COUNT": "5"}.items()}


def test_a_launcher_says_who_a_process_is() -> None:
    assert launch({}) == Launch()
    assert launch(TORCHRUN) == Launch(3, 4, 1, "n1", 1234)
    assert launch(SRUN) == Launch(5, 8, 1, "n07", 30500)
    assert launch(SRUN | {"MASTER_ADDR": "a", "MASTER_PORT": "7"}) == Launch(5, 8, 1, "a", 7)
    assert launch(SRUN | TORCHRUN) == launch(TORCHRUN)
    assert launch(ARRAY) == Launch()  # tasks that have nowhere to meet
    assert launch(ARRAY | {"MASTER_ADDR": "a", "MASTER_PORT": "7"}) == Launch(2, 5, 0, "a", 7)
    assert launch({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}) == Launch()  # a batch script, before it calls srun
    assert launch(TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"}) == Launch()
    for bad, word in (
        ({"RANK": "4"}, "process 4 of 4"),
        ({"RANK": "x"}, "RANK='x'"),
        ({"MASTER_ADDR": ""}, "meet"),
    ):
        with pytest.raises(UsageError, match=word):
            launch(TORCHRUN | bad)


@pytest.mark.parametrize(
    ("nodes", "first"), [("n7", "n7"), ("n[7-9],m1", "n7"), ("a,b", "a"), ("r2[01,05]x", "r201x"), ("", "")]
)
def test_the_first_host_of_a_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_one_process_makes_no_group() -> None:
    at, x = Ranks(), torch.arange(6).view(2, 3)
    assert (at.rank, at.size, at.first, list(at.share(3))) == (0, 1, True, [0, 1, 2])
    assert torch.equal(at.least(x), x)
    assert torch.equal(at.total([x, x]), 2 * x)
    assert at.gathered(x)[0] is x
    assert at.heard(at.sent({"a": 1})) == [{"a": 1}]
    at.meet()
    assert not torch.distributed.is_initialized()
    with pytest.raises(UsageError, match="no parts"):
        at.total([])


# --- two hosts --------------------------------------------------------------------------------------


NET = "10.77.0"


@pytest.fixture
def hosts() -> Iterator[list[tuple[str, str]]]:
    """Two network namespaces with a cable between them: name and cable of each, `NET`.1 and `NET`.2."""
    ip = shutil.which("ip")
    if ip is None:
        pytest.skip("no ip command to make network namespaces with")
    mark = uuid.uuid4().hex[:6]
    names, cables = [f"pk{mark}{k}" for k in "ab"], [f"v{mark}{k}" for k in "ab"]

    def say(*words: str) -> None:
        subprocess.run([ip, *words], check=True, capture_output=True, text=True)

    try:
        try:
            for name in names:
                say("netns", "add", name)
            say("link", "add", cables[0], "netns", names[0], "type", "veth", "peer", cables[1], "netns", names[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
        for k, (name, cable) in enumerate(zip(names, cables, strict=True)):
            say("-n", name, "addr", "add", f"{NET}.{k + 1}/24", "dev", cable)
            say("-n", name, "link", "set", cable, "up")
            say("-n", name, "link", "set", "lo", "up")
        yield [(name, cable) for name, cable in zip(names, cables, strict=True)]
    finally:
        for name in names:
            subprocess.run([ip, "netns", "del", name], check=False, capture_output=True)


def test_two_hosts(hosts: list[tuple[str, str]], alone: Any) -> None:
    started = []
    for rank, (name, cable) in enumerate(hosts):
        told = {
            "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": f"{NET}.1",
            "MASTER_PORT": "29500", "GLOO_SOCKET_IFNAME": cable,
        }  # fmt: skip
        started.append(begun([WORK, "moved", "reduced"], told | HERE, within=["ip", "netns", "exec", name]))
    assert said([ended(process) for process in started]) == [alone] * 2

"""Clusters of codes end to end, against hdbscan and against the number of rows.

Every run is a process of its own, so that peaks of memory do not mix: it loads the codes, does all once on a few
rows, so that everything is compiled and imported, notes its memory and then starts its clocks. CPU seconds are of
the whole process, on as many cores as it is pinned to; memory is its peak above the note.

Beside hdbscan: one core; the peer is given the float64 matrix of all distances for nothing, neither its time nor
its memory is counted. The gate: the weights of both spanning trees are equal, one by one; else there is no time.
"""

import argparse
import importlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern_benches import _planted
from polykern_benches._harness import describe_machine

Found = tuple[NDArray[np.int64], Any, dict[str, Any]]  # labels, weights of the tree, what else is told

BITS = 3072
MIN_SIZE = 15  # min_cluster_size and min_samples
AGAINST, GROWTH = 20_000, (10_000, 20_000, 50_000, 100_000)
WORLDS = ("flips", "layer")
WARM = 300  # rows of the run that compiles


def main() -> None:
    """Print the tables; with --json also write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--small", action="store_true", help="toy sizes: does it run?")
    parser.add_argument("--threads", type=int, default=2, help="of the growth table")
    parser.add_argument("--device", default="cpu", help="accepted for symmetry; this measures the CPU")
    parser.add_argument("--child", nargs=2, metavar=("RUN", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        _child(given.child[0], Path(given.child[1]))
        return
    small = 400 if given.small else None
    report: dict[str, Any] = {"schema": "polykern-bench/1", **describe_machine(), "small": given.small}
    report["against"] = [_against(world, small or AGAINST) for world in WORLDS]
    report["growth"] = []
    print(f"\n{GROWTH_HEAD}")
    for world in WORLDS:
        for n in (small // 2, small) if small else GROWTH:
            report["growth"].append(_grown(world, n, given.threads))
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n")


# --- the tables ---------------------------------------------------------------------------------------

GROWTH_HEAD = (
    "world     rows  threads  wall s   CPU s  neighbours   tree  clusters  rounds  passes  added MB  found  ARI"
)


def _against(world: str, n: int) -> dict[str, Any]:
    """Both on one core; the ratio of their CPU seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = _plant(world, n, folder)
        ours = _run("ours", folder, threads=1)
        ours["ari"] = _agreement(truth, folder / "ours.npy")
        row: dict[str, Any] = {"world": world, "rows": n, "bits": BITS, "min_cluster_size": MIN_SIZE, "ours": ours}
        if importlib.util.find_spec("hdbscan"):
            row["hdbscan"] = peer = _run("hdbscan", folder, threads=1)
            peer["ari"] = _agreement(truth, folder / "hdbscan.npy")
            if not np.array_equal(np.load(folder / "ours-weights.npy"), np.load(folder / "hdbscan-weights.npy")):
                raise SystemExit("the trees differ, so no time")
            row["ratio"] = peer["cpu_s"] / ours["cpu_s"]
    print(f"{world}, {n} rows of {BITS} bits, one core")
    for who in ("ours", "hdbscan"):
        if who in row:
            told = row[who]
            print(
                f"  {who:8} {told['cpu_s']:8.2f} CPU s {told['added_mb']:8.0f} MB added  "
                f"{told['found']} clusters  ARI {told['ari']:.3f}"
            )
    print(f"  ratio {row['ratio']:.1f}" if "ratio" in row else "  hdbscan is not installed", flush=True)
    return row


def _grown(world: str, n: int, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        truth = _plant(world, n, Path(name))
        row = {"world": world, "rows": n, "threads": threads, **_run("stages", Path(name), threads)}
        row["ari"] = _agreement(truth, Path(name) / "stages.npy")
    stage = row["stages_s"]
    print(
        f"{world:7} {n:6} {threads:8} {row['wall_s']:7.2f} {row['cpu_s']:7.2f} {stage['neighbours']:11.2f} "
        f"{stage['tree']:6.2f} {stage['clusters']:9.2f} {row['rounds']:7} {row['passes']:7.3f} "
        f"{row['added_mb']:9.0f} {row['found']:6} {row['ari']:5.3f}",
        flush=True,
    )
    return row


def _plant(world: str, n: int, folder: Path) -> NDArray[np.int64]:
    words, truth = getattr(_planted, world)(n, BITS)
    np.save(folder / "words.npy", words.numpy())
    return truth  # type: ignore[no-any-return]


def _agreement(truth: NDArray[np.int64], labels: Path) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(truth, np.load(labels)))


# --- one run, in a process of its own --------------------------------------------------------------------


def _run(run: str, folder: Path, threads: int) -> dict[str, Any]:
    """What a child measured."""
    numbers = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(numbers, str(threads))}
    command = [sys.executable, "-m", "polykern_benches.bench_hdbscan", "--child", run, str(folder)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{run}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def _child(run: str, folder: Path) -> None:
    threads = int(os.environ["NUMBA_NUM_THREADS"])
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    words = torch.from_numpy(np.load(folder / "words.npy"))
    runs: dict[str, Callable[[Any], Found]] = {"ours": _ours, "hdbscan": _hdbscan, "stages": _stages}
    work = runs[run]
    warm = _prepared(run, words[:WARM])
    work(warm)
    given = _prepared(run, words)
    before = _memory("VmRSS")
    _forget_the_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    labels, weights, told = work(given)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.save(folder / f"{run}.npy", labels)
    np.save(folder / f"{run}-weights.npy", np.sort(np.asarray(weights, np.float64)))
    found = {"wall_s": wall, "cpu_s": cpu, "added_mb": (_memory("VmHWM") - before) / 1e6}
    json.dump({**found, "found": int(labels.max()) + 1, **told}, sys.stdout)


def _prepared(run: str, words: Tensor) -> Any:
    """What a run starts from: codes, or for the peer the matrix of their distances."""
    if run != "hdbscan":
        return words
    from polykern_kernels import hamming

    matrix = np.empty((len(words), len(words)))
    for first in range(0, len(words), 512):
        matrix[first : first + 512] = hamming.pairwise(words[first : first + 512], words).numpy()
    return matrix


def _ours(words: Tensor) -> Found:
    from polykern.clustering.estimator import HDBSCAN

    model = HDBSCAN(MIN_SIZE).fit(words)
    return model.labels_, model.minimum_spanning_tree_.to_numpy()[:, 2], {}


def _hdbscan(matrix: NDArray[np.float64]) -> Found:
    import hdbscan

    model = hdbscan.HDBSCAN(min_cluster_size=MIN_SIZE, metric="precomputed").fit(matrix)
    return model.labels_, model.single_linkage_tree_.to_numpy()[:, 2], {}


def _stages(words: Tensor) -> Found:
    from polykern.clustering.dendrogram import condense, dendrogram
    from polykern.clustering.reachability import reachability
    from polykern.clustering.selection import select

    found = reachability(words, "hamming", MIN_SIZE)
    start = time.perf_counter()
    labels = select(condense(dendrogram(found.tree), MIN_SIZE, zero=found.zero)).labels
    stages = {
        "neighbours": found.seconds["duplicates"] + found.seconds["neighbours"],
        "tree": found.seconds["spanning tree"],
        "clusters": time.perf_counter() - start,
    }
    told = {"stages_s": stages, "rounds": found.tree.rounds, "passes": found.tree.passes}
    return labels, found.tree.weight.numpy(), told


def _memory(what: str) -> int:
    """Bytes of this process, now (VmRSS) or at most since the peak was forgotten (VmHWM)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (line,) = (row for row in status.read_text().splitlines() if row.startswith(f"{what}:"))
    return int(line.split()[1]) * 1024


def _forget_the_peak() -> None:
    """VmHWM starts again from what is held now, where the system lets a process ask for it."""
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        peak.write_text("5")


if __name__ == "__main__":
    main()

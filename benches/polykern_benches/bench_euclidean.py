"""Clusters of float rows end to end, beside scikit-learn's brute force.

Every run is a process of its own on one core: it makes the rows, clusters a few of them, so that everything is
compiled and imported, notes its memory and starts its clock. Seconds are CPU seconds, memory is the peak above the
note. The gate: both label the rows alike (adjusted Rand index above 0.99) and the weights of both spanning trees
agree, one by one, to 1e-4, for scikit-learn's distances are float32; else there is no time. scikit-learn counts the
row itself, so its min_samples is one more.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polykern_benches._harness import describe_machine

COLUMNS, CLUSTERS, NOISE = 768, 20, 0.2
MIN_SIZE = 15  # min_cluster_size and min_samples
SIZES = (5_000, 20_000)
WARM = 300  # rows of the run that compiles


def main() -> None:
    """Print a line for every size; with --json also write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--small", action="store_true", help="toy sizes: does it run?")
    parser.add_argument("--device", default="cpu", help="accepted for symmetry; this measures the CPU")
    parser.add_argument("--child", nargs=3, metavar=("WHO", "ROWS", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        _child(given.child[0], int(given.child[1]), Path(given.child[2]))
        return
    sizes = (400,) if given.small else SIZES
    rows = [_beside(n) for n in sizes]
    if given.json:
        report = {"schema": "polykern-bench/1", **describe_machine(), "small": given.small, "results": rows}
        given.json.write_text(json.dumps(report, indent=1) + "\n")


def planted(n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """float32 (n, 768) around 20 centres with a fifth of noise, and int64 (n) which centre, -1 for noise."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLUSTERS, COLUMNS))
    truth = np.where(rng.random(n) < NOISE, -1, rng.integers(0, CLUSTERS, n))
    spread = np.where(truth < 0, 1.2, 0.5)[:, None] * rng.normal(size=(n, COLUMNS))
    return (np.where(truth[:, None] < 0, 0.0, centres[truth]) + spread).astype(np.float32), truth


def _beside(n: int) -> dict[str, Any]:
    from sklearn.metrics import adjusted_rand_score

    truth = planted(n)[1]
    row: dict[str, Any] = {"rows": n, "columns": COLUMNS, "min_cluster_size": MIN_SIZE}
    labels, weights = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for who in ("ours", "sklearn"):
            file = Path(folder) / f"{who}.npz"
            row[who] = _run(who, n, file)
            with np.load(file) as found:
                labels[who], weights[who] = found["labels"], np.sort(found["weights"].astype(np.float64))
                row[who] |= {"weight": float(weights[who].sum()), "found": int(labels[who].max()) + 1}
                row[who]["ari"] = float(adjusted_rand_score(truth, labels[who]))
    alike = np.allclose(weights["ours"], weights["sklearn"], rtol=1e-4, atol=0)
    if not alike or adjusted_rand_score(labels["ours"], labels["sklearn"]) < 0.99:
        raise SystemExit("the trees or the clusters differ, so no time")
    row["ratio"] = row["sklearn"]["cpu_s"] / row["ours"]["cpu_s"]
    print(f"{n} rows of {COLUMNS} float32, one core")
    for who in ("ours", "sklearn"):
        told = row[who]
        print(
            f"  {who:8} {told['cpu_s']:8.2f} CPU s {told['added_mb']:8.0f} MB added  {told['found']} clusters  "
            f"ARI {told['ari']:.4f}  tree {told['weight']:.9g}"
        )
    print(f"  ratio {row['ratio']:.2f}", flush=True)
    return row


def _run(who: str, n: int, file: Path) -> dict[str, Any]:
    numbers = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(numbers, "1")}
    command = [sys.executable, "-m", "polykern_benches.bench_euclidean", "--child", who, str(n), str(file)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{who}: {done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _child(who: str, n: int, file: Path) -> None:
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    x = planted(n)[0]
    work = {"ours": _ours, "sklearn": _sklearn}[who]
    work(x[:WARM])
    before = _memory("VmRSS")
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        peak.write_text("5")  # VmHWM starts again from what is held now
    cpu = time.process_time()
    labels, weights = work(x)
    cpu = time.process_time() - cpu
    np.savez(file, labels=labels, weights=weights)
    json.dump({"cpu_s": cpu, "added_mb": (_memory("VmHWM") - before) / 1e6}, sys.stdout)


def _ours(x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    from polykern.clustering.estimator import HDBSCAN

    model = HDBSCAN(MIN_SIZE, metric="euclidean").fit(x)
    return model.labels_, model.minimum_spanning_tree_.to_numpy()[:, 2]


def _sklearn(x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    from sklearn.cluster import HDBSCAN

    told: dict[str, Any] = {"min_samples": MIN_SIZE + 1, "algorithm": "brute", "copy": True}
    model: Any = HDBSCAN(MIN_SIZE, **told).fit(x)
    return model.labels_, model._single_linkage_tree_["value"]


def _memory(what: str) -> int:
    """Bytes of this process, now (VmRSS) or at most since the peak was forgotten (VmHWM); 0 where nobody says."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    (line,) = (row for row in status.read_text().splitlines() if row.startswith(f"{what}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()

"""The jobs of `targets`: each makes its data, judges its result, and then gives seconds and work."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern_kernels import covariance, hamming, neighbours, pack

WORDS, SIZE = 96, 15  # of a code; both parameters of HDBSCAN
CLUSTERS, NOISE = 50, 0.1
RUNS = 5


class Wrong(RuntimeError):
    """The result is not right, so there is no time."""


@dataclass(frozen=True, slots=True)
class Where:
    """The device, and whether sizes are toys."""

    device: str
    small: bool

    def pick(self, full: int, toy: int) -> int:
        """The full size or the toy."""
        return toy if self.small else full


@dataclass(slots=True)
class Found:
    """Seconds of the best run, the work in the unit of the row's ceiling, and what else is worth knowing."""

    seconds: float
    work: float = 0.0
    told: dict[str, Any] = field(default_factory=dict)


def planted(n: int, device: str, words: int = WORDS) -> Tensor:
    """int32 (n, words): copies of a few codes with an eighth of their bits flipped, among random ones."""
    g = torch.Generator(device).manual_seed(0)

    def noise(rows: int) -> Tensor:
        return torch.randint(-(2**31), 2**31 - 1, (rows, words), dtype=torch.int32, device=device, generator=g)

    label = torch.randint(0, CLUSTERS, (n,), device=device, generator=g)
    out = noise(CLUSTERS)[label] ^ (noise(n) & noise(n) & noise(n))
    alone = torch.rand(n, device=device, generator=g) < NOISE
    out[alone] = noise(n)[alone]
    return out


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def best(fn: Callable[[], Any], device: str, runs: int = RUNS) -> float:
    """Seconds of the fastest run, the device waited for."""
    times = []
    for _ in range(runs):
        _wait(device)
        start = time.perf_counter()
        fn()
        _wait(device)
        times.append(time.perf_counter() - start)
    return min(times)


def require(right: bool, what: str) -> None:
    """Raises Wrong."""
    if not right:
        raise Wrong(f"wrong answer, so no time: {what}")


# --- distances ------------------------------------------------------------------------------------


def pairs_b1(where: Where) -> Found:
    """All pairs on the 1-bit tensor cores, reduced to minima of blocks; work in pairs of bits."""
    found = _pairs(where, "b1")
    found.work *= 32
    return found


def pairs_popcount(where: Where) -> Found:
    """All pairs by popcounts, reduced to minima of blocks; work in words."""
    return _pairs(where, "triton")


def _pairs(where: Where, way: str) -> Found:
    """The nearest other code of each: the kernel of the minima alone is timed, and beside it the whole search."""
    n = where.pick(65536, 96)
    x = planted(n, where.device)
    rows = torch.arange(n - 64, n)

    def search() -> tuple[Tensor, Tensor]:
        return neighbours.nearest(x, x, 1, skip=torch.arange(n, device=where.device), backend=way)

    got, host = search(), x.cpu()
    want = neighbours.nearest(host[rows], host, 1, skip=rows)
    require(all(torch.equal(a.cpu()[rows], b) for a, b in zip(got, want, strict=True)), "nearest codes")
    whole = best(search, where.device)
    tile = _kernel_seconds(search, "minima")
    told = {"search_s": whole, "kernel": tile is not None}
    return Found(whole if tile is None else tile, float(n) * n * WORDS, told)


def _kernel_seconds(fn: Callable[[], Any], name: str) -> float | None:
    """Device seconds of the kernels whose name holds `name` in one run; None where the profiler sees none."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        fn()
        torch.cuda.synchronize()
    total = sum(event.device_time_total for event in seen.key_averages() if name in event.key)
    return total / 1e6 if total else None


def nearest_of_all(where: Where) -> Found:
    """The 16 nearest other codes of a million."""
    n, k = where.pick(1_000_000, 300), 16
    x = planted(n, where.device)
    distances, indices = neighbours.self_nearest(x, k)
    rows = torch.randperm(n, generator=torch.Generator().manual_seed(1))[: where.pick(20_000, 50)]
    host = x.cpu()
    want = neighbours.nearest(host[rows], host, k, skip=rows)
    require(torch.equal(distances.cpu()[rows], want[0]), "distances")
    require(torch.equal(indices.cpu()[rows], want[1]), "indices")
    return Found(best(lambda: neighbours.self_nearest(x, k), where.device, 3), float(n) * n / 2 * WORDS)


# --- clusters -------------------------------------------------------------------------------------


def clusters(where: Where) -> Found:
    """HDBSCAN of a million codes, from codes to labels."""
    return _clusters(where, where.pick(1_000_000, 400))


def more_clusters(where: Where) -> Found:
    """HDBSCAN of ten million codes."""
    return _clusters(where, where.pick(10_000_000, 500))


def _clusters(where: Where, n: int) -> Found:
    from polykern.clustering.dendrogram import condense, dendrogram
    from polykern.clustering.reachability import reachability
    from polykern.clustering.selection import select

    x = planted(n, where.device)
    few = x[: where.pick(20_000, 200)]
    require(float(reachability(few, "hamming", SIZE).tree.weight.sum()) == prim(few.cpu()), "weight of the tree")
    told: dict[str, Any] = {}

    def run() -> None:
        found = reachability(x, "hamming", SIZE)
        labels = select(condense(dendrogram(found.tree), SIZE, zero=found.zero)).labels
        told.update(stages_s=found.seconds, rounds=found.tree.rounds, clusters=int(labels.max()) + 1)

    seconds = best(run, where.device, 1)
    return Found(seconds, told=told)


def prim(words: Tensor) -> float:
    """The least weight of a tree of mutual reachability, from all distances, a row at a time."""
    distances = hamming.pairwise(words, words).numpy()
    core = np.partition(distances, SIZE, axis=1)[:, SIZE]  # the row itself is among the first
    near = np.full(len(words), np.iinfo(np.int32).max)
    outside = np.ones(len(words), bool)
    at, total = 0, 0
    for _ in range(len(words) - 1):
        outside[at] = False
        reach: NDArray[np.int32] = np.maximum(np.maximum(distances[at], core), core[at])
        np.minimum(near, reach, out=near)
        at = int(np.where(outside, near, np.iinfo(np.int32).max).argmin())
        total += int(near[at])
    return float(total)


# --- packing, products ------------------------------------------------------------------------------


def packed(where: Where) -> Found:
    """Signs of bfloat16 activations; work in bytes."""
    n, d = where.pick(65536, 65), 32 * WORDS
    x = torch.randn((n, d), device=where.device, generator=torch.Generator(where.device).manual_seed(0)).bfloat16()
    words, ones = pack.signs(x)
    want = pack.signs(x[-64:].cpu(), backend="reference")
    require(torch.equal(words[-64:].cpu(), want[0]) and torch.equal(ones[-64:].cpu(), want[1]), "signs")
    return Found(best(lambda: pack.signs(x), where.device, 20), n * d * 2 + n * WORDS * 4 + n * 4)


def covariances(where: Where) -> Found:
    """The covariance of a million activations of bfloat16; work in multiplications and additions."""
    rows, d, times = where.pick(65536, 64), where.pick(12_288, 48), where.pick(16, 2)
    x = torch.randn(
        (rows, d), device=where.device, generator=torch.Generator(where.device).manual_seed(0)
    ).bfloat16()

    def run() -> Tensor:
        state = covariance.start(d, where.device)
        for _ in range(times):
            covariance.add(state, x)
        return covariance.read(state)[1]

    few = x[:, -8:].double()
    few = few - few.mean(0)
    truth = few.T @ few / rows
    error = float((run()[-8:, -8:].to(truth) - truth).norm() / truth.norm())
    require(error < 1e-5, f"a block is off by {error:.1e}")
    return Found(best(run, where.device, 3), 2.0 * rows * times * d * d, {"error": error})


# --- maps -----------------------------------------------------------------------------------------


def map_of_digits(where: Where) -> Found:
    """The default network at 4096 x 4096 by tile programs: the stage of the map."""
    return _map(where, "digits", "tiles", wrong=0.0)


def map_of_googlenet(where: Where) -> Found:
    """GoogLeNet from inception5a to the output at 4096 x 4096, anchored."""
    return _map(where, "googlenet", "anchored", wrong=0.1)


def _map(where: Where, model: str, engine: str, wrong: float) -> Found:
    from polykern.heat import prepare
    from polykern.maps.compute import compute
    from polykern.models import load

    subject = load(model)

    def made(resolution: int) -> tuple[dict[str, Any], dict[str, float]]:
        recipe = prepare(subject, resolution=resolution, engine=engine, device=where.device)
        with tempfile.TemporaryDirectory() as folder:
            found = compute(recipe, Path(folder) / "map").provenance
        return found["audit"], found["timings"]

    made(where.pick(256, 32))  # compiles
    audit, timings = made(where.pick(4096, 64))
    require(audit["wrong_bits_per_point"] <= wrong, f"{audit['wrong_bits_per_point']:g} wrong bits a point")
    return Found(timings["map"], told={"audit": audit, "timings": timings})

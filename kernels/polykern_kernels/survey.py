"""Nearest codes with the minima of blocks kept, and the searches that these minima make short.

    minimum(i, b) = least Hamming distance of code i from the codes of block b, codes b size ... (b + 1) size - 1

A minimum says that no code of a block is nearer, whatever else is asked later: a search among the codes of other
components (`polykern_kernels.foreign`) opens only blocks whose minimum, with the core distances, does not exceed
what it has found. Answers are exact for any order of the codes; how many blocks are opened depends on it. It is few
where near codes stand together, so that most blocks lie inside one component. Minima are kept in 16 bits, rounded
down to a power of two when distances are longer.

Lists are those of `polykern_kernels.neighbours.self_nearest`, pairs counted once. CPU only.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from polykern_kernels import _check, _metric
from polykern_kernels._bits import WORD_BITS
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, choose, cpu_objection
from polykern_kernels._metric import FARTHEST, METRICS, Numbers, Progress, silent

LEAST_BLOCK = 96  # codes; a block is this or some such power-of-two-fold of it
MOST_BLOCKS = 1 << 10  # so that minima take 2 KiB a code at most

Agreed = Callable[[Tensor], Tensor]

# --- contract -----------------------------------------------------------------------------------


def block_size(n: int) -> int:
    """Codes of a block when there are n: the least size that gives no more than MOST_BLOCKS blocks."""
    size = LEAST_BLOCK
    while size * MOST_BLOCKS < n:
        size *= 2
    return size


def minima_bytes(n: int) -> int:
    """Bytes of the minima that `nearest` keeps of n codes."""
    return 2 * n * -(-n // block_size(n))


def nearest(
    words: Tensor,
    names: Tensor,
    k: int,
    *,
    share: tuple[int, int] = (0, 1),
    agreed: Agreed | None = None,
    metric: str = "hamming",
    backend: str | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The k other codes that are nearest to each code, and the minima of all blocks.

    words     int32 (n, words)   packed codes, near ones beside each other
    names     int64 (n)          what each code is called: a permutation of 0 ... n - 1
    k         neighbours a code, at most n - 1
    share     (part, parts): only this one of several equal parts of the pairs
    agreed    with several parts: the least of a tensor over all of them, entry by entry. They run side by side, one
              on each rank, and call it as often: what is near enough in one need not be listed in another
    metric    "hamming" | "jaccard", of the lists; minima are Hamming distances
    backend   "cpu" | "reference"; None takes the first that can run
    progress  called now and then with the work done and all of it; the last time they are equal
    returns   distances int32 (n, k) for Hamming, float64 (n, k) for Jaccard
              indices   int64 (n, k)   names, ascending by (distance, name)
              minima    int16 (n, blocks)   patterns of uint16: minimum >> `shift_of(words)`; a code counts itself
              of a part of the pairs: the nearest and the minima among them. Places left over hold an index of
              2**63 - 1 and a distance that is not less than the k-th of all pairs, so the least of all parts are
              those of all pairs. A minimum is found in one part, and is 65535 in the others

    Exact. Raises ValueError when the arguments do not fit.
    """
    op = "survey.nearest"
    _check_codes(op, words, names, metric)
    if not 0 <= k <= max(len(words) - 1, 0):
        raise ValueError(f"{op}: k must be 0 <= k <= {max(len(words) - 1, 0)}, got {k}")
    if not 0 <= share[0] < share[1]:
        raise ValueError(f"{op}: share must be (part, parts), 0 <= part < parts, got {share}")
    if agreed is None and share[1] > 1:
        raise ValueError(f"{op}: {share[1]} parts need `agreed`")
    chosen = choose(op, IMPLS["nearest"], backend, words)
    return chosen.run(words, names, k, share, agreed or torch.clone, metric, progress or silent)  # type: ignore[no-any-return]


def foreign(
    words: Tensor,
    names: Tensor,
    minima: Tensor,
    rows: Tensor,
    cores: Tensor,
    components: Tensor,
    *,
    bound: Tensor | None = None,
    metric: str = "hamming",
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The least edge of mutual reachability from each of some codes to another component, as `foreign.nearest`.

    words       int32 (n, words)     in the order that `nearest` had them
    names       int64 (n)
    minima      int16 (n, blocks)    of `nearest`
    rows        int64 (r)            places of the codes that ask
    cores       (n)                  core distances: int32 for Hamming, float64 for Jaccard
    components  int64 (n)            >= 0
    bound       None | cores' dtype (r)   only weights below it are of interest
    metric      "hamming" | "jaccard"
    backend     "cpu" | "reference"; None takes the first that can run
    returns     weights cores' dtype (r)
                indices int64 (r)   name of the least (weight, name), or -1 beside the bound as in `foreign.nearest`
                counted int64 (r)   codes whose distance was taken; 0 from the reference, which takes all

    Exact. Raises ValueError when the arguments do not fit.
    """
    op = "survey.foreign"
    _check_codes(op, words, names, metric)
    n = len(words)
    _check.sized(op, "minima", minima, torch.int16, n, -(-n // block_size(n)))
    _check.tensor(op, "rows", rows, _check.INT64, "rows")
    _check.sized(op, "cores", cores, METRICS[metric], n)
    _check.sized(op, "components", components, torch.int64, n)
    if bound is None:
        bound = torch.full((len(rows),), _metric.never(metric), dtype=cores.dtype)
    _check.sized(op, "bound", bound, cores.dtype, len(rows))
    _check.within(op, "rows", rows, n, f"places of codes (0 <= row < {n})")
    chosen = choose(op, IMPLS["foreign"], backend, words)
    return chosen.run(words, names, minima, rows, cores, components, bound, metric)  # type: ignore[no-any-return]


def shift_of(words: Tensor) -> int:
    """Powers of two that a minimum is divided by, so that the longest distance fits 16 bits."""
    return max(0, (WORD_BITS * words.shape[1]).bit_length() - 16)


def cost(n: int, words: int, k: int) -> Cost:
    """`nearest`: read each code once, write lists and minima, count each pair's words once."""
    blocks = -(-n // block_size(n))
    return Cost(bytes=n * (4 * words + 12 * k + 2 * blocks), popcounts=n * (n - 1) // 2 * words)


def _check_codes(op: str, words: Tensor, names: Tensor, metric: str) -> None:
    _metric.check(op, "words", words, metric, "codes")
    _check.sized(op, "names", names, torch.int64, len(words))


# --- reference: all distances of a code ----------------------------------------------------------------


def _unmet(n: int, k: int, metric: str) -> tuple[Tensor, Tensor, Tensor]:
    """Lists that any code can enter, and minima of blocks of which none was met."""
    distances = torch.full((n, k), FARTHEST[metric], dtype=METRICS[metric])
    minima = torch.full((n, -(-n // block_size(n))), -1, dtype=torch.int16)
    return distances, torch.full((n, k), torch.iinfo(torch.int64).max), minima


def _nearest_reference(
    words: Tensor, names: Tensor, k: int, share: tuple[int, int], agreed: Agreed, metric: str, progress: Progress
) -> tuple[Tensor, Tensor, Tensor]:
    n, size = len(words), block_size(len(words))
    distances, indices, minima = _unmet(n, k, metric)
    by_name = names.argsort()
    for i in range(share[0], n, share[1]):
        differing, d = (_metric.distances(words[i], words, name) for name in ("hamming", metric))
        order = by_name[d[by_name].sort(stable=True).indices]
        order = order[order != i][:k]
        distances[i], indices[i] = d[order], names[order]
        least = torch.stack([part.min() for part in differing.split(size)]) >> shift_of(words)
        minima[i] = least.to(torch.int16)
        progress(i + 1, n)
    return distances, indices, minima


def _foreign_reference(
    words: Tensor,
    names: Tensor,
    minima: Tensor,
    rows: Tensor,
    cores: Tensor,
    components: Tensor,
    bound: Tensor,
    metric: str,
) -> tuple[Tensor, Tensor, Tensor]:
    weights, indices = bound.clone(), torch.full_like(rows, -1)
    for at, i in enumerate(rows.tolist()):
        distances = _metric.distances(words[i], words, metric)
        weight = torch.maximum(distances, torch.maximum(cores, cores[i]))
        edges = zip(weight.tolist(), names.tolist(), (components != components[i]).tolist(), strict=True)
        least = min(((w, name) for w, name, other in edges if other), default=None)
        if least is not None and least[0] < bound[at].item():
            weights[at], indices[at] = least
    return weights, indices, torch.zeros_like(rows)


# --- cpu: numba, `_numba.survey` ---------------------------------------------------------------------


def _turns(blocks: int) -> Iterator[Numbers]:
    """Pairs x <= y of blocks, none in two of a turn: each with itself first, then x + y = turn modulo blocks."""
    x = np.arange(blocks)
    yield np.stack([x, x], 1)
    for turn in range(blocks):
        y = (turn - x) % blocks
        yield np.stack([x[x < y], y[x < y]], 1)


def _nearest_cpu(
    words: Tensor, names: Tensor, k: int, share: tuple[int, int], agreed: Agreed, metric: str, progress: Progress
) -> tuple[Tensor, Tensor, Tensor]:
    from polykern_kernels._numba import neighbours as heaps
    from polykern_kernels._numba import survey as loops

    n, size, (part, parts) = len(words), block_size(len(words)), share
    distances, indices, minima = _unmet(n, max(k, 1), metric)
    codes = words.contiguous().numpy()
    filled = codes, _metric.ones(codes, metric), names.numpy(), distances.numpy(), indices.numpy()
    step = int(agreed(torch.tensor(loops.step(-(-n // parts)))))
    step = -(-step // size) * size if parts > 1 else step  # no minimum is of two parts
    blocks, met = -(-n // step), 0
    for done, pairs in enumerate(_turns(blocks) if n else ()):
        own = pairs[(part - met) % parts :: parts]  # one after the other, turn after turn
        loops.nearest(*filled, minima.numpy().view(np.uint16), size, shift_of(words), own, step)
        met += len(pairs)
        if parts > 1 and not done & (done - 1):  # after turns 0, 1, 2, 4, 8, ...
            loops.shorten(*filled[3:], agreed(distances[:, 0]).numpy(), torch.iinfo(torch.int64).max)
        progress(done + 1, blocks + 1)
    heaps.settle(distances.numpy(), indices.numpy())
    return distances[:, :k], indices[:, :k], minima


def _foreign_cpu(
    words: Tensor,
    names: Tensor,
    minima: Tensor,
    rows: Tensor,
    cores: Tensor,
    components: Tensor,
    bound: Tensor,
    metric: str,
) -> tuple[Tensor, Tensor, Tensor]:
    from polykern_kernels._numba import survey as loops

    weights, points, counted = bound.clone(), torch.full_like(rows, -1), torch.zeros_like(rows)
    if not len(rows):
        return weights, points, counted
    n, size = len(words), block_size(len(words))
    sizes = _metric.ones(words.contiguous().numpy(), metric)
    core, component = cores.numpy(), components.numpy()
    starts = np.arange(0, n, size)
    low, high = (by.reduceat(component, starts) for by in (np.minimum, np.maximum))
    blocks = np.minimum.reduceat(core, starts), np.maximum.reduceat(sizes, starts), np.where(low == high, low, -1)
    even = torch.nn.functional.pad(words, (0, 1)) if words.shape[1] % 2 else words
    codes = even.contiguous().numpy().view(np.uint64)
    given = codes, sizes, names.numpy(), minima.numpy().view(np.uint16), size, shift_of(words), rows.numpy()
    loops.foreign(*given, core, component, *blocks, weights.numpy(), points.numpy(), counted.numpy())
    return weights, points, counted


IMPLS = {
    "nearest": (
        Impl("cpu", _nearest_cpu, cpu_objection),
        Impl("reference", _nearest_reference, cpu_objection),
    ),
    "foreign": (
        Impl("cpu", _foreign_cpu, cpu_objection),
        Impl("reference", _foreign_reference, cpu_objection),
    ),
}

"""What the tests of ranks run in each of their processes: `python rank_work.py WORK ...`."""

import json
import os
import signal
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern import HDBSCAN
from polykern.clustering.panels import Device
from polykern.clustering.reachability import reachabilities
from polykern.clustering.shared import nearest, within
from polykern.clustering.space import Packed
from polykern.clustering.spanning import agreed
from polykern.ranks import Ranks, ranks
from polykern.store.sealed import digest

K, SAMPLES = 6, 5


def codes(n: int, words: int = 2, seed: int = 0) -> Tensor:
    """Clusters of codes, with many ties and some equal codes."""
    draw = np.random.default_rng(seed)
    centres = draw.integers(0, 2**31, (9, words))
    flips = np.where(draw.random((n, words)) < 0.7, 1 << draw.integers(0, 31, (n, words)), 0)
    return torch.from_numpy((centres[draw.integers(0, 9, n)] ^ flips).astype(np.int32))


def mark(*tensors: Tensor) -> str:
    """A digest of bytes, dtypes and shapes."""
    return digest(b"".join(f"{x.dtype}{list(x.shape)}".encode() + x.numpy().tobytes() for x in tensors))


def moved(at: Ranks) -> dict[str, Any]:
    """What travels between ranks: the same on each of them, and for any number of them."""
    parts = torch.tensor([[0.1 * (i + 1), -1e16, 1e16] for i in range(7)], dtype=torch.float64)
    own = parts[at.share(7).start : at.share(7).stop]
    odd, rows = torch.arange(10, dtype=torch.uint8).view(2, 5).bool(), torch.arange(7 * 6).view(7, 3, 2)
    at.meet()
    return {
        "shares": sum(at.heard(len(own))),
        "least": at.least(torch.tensor([at.rank, (at.rank + 1) % at.size, 7])).tolist(),
        "whole": at.total([torch.tensor([len(own)]), torch.tensor([0])]).tolist(),
        "float": mark(at.total(list(own))),
        "gathered": mark(torch.cat(at.gathered(own))),
        "dealt": [
            mark(torch.cat(at.gathered(torch.stack(at.dealt(x)).sum(0) // at.size))) for x in (rows, rows[:1])
        ],
        "handed": mark(at.handed(odd if at.first else None)),
        "sent": at.sent({"a": [1, None, "ü"]} if at.first else None),
    }


def searched(at: Ranks) -> dict[str, Any]:
    """Lists, counts and trees, by minima of blocks and by panels."""
    found: dict[str, Any] = {}
    words, few = codes(1500), codes(260)
    for metric in ("hamming", "jaccard"):
        found[f"survey {metric}"] = mark(*Packed(words, metric, at=at).nearest(K))
        found[f"panels {metric}"] = mark(*Packed(few, metric, at=at).nearest(K))
        through = Packed(few, metric, at=at, through=Device(torch.device("cpu"), 70))
        found[f"through {metric}"] = mark(*through.nearest(K))
        for samples, reach in reachabilities(words, metric, [SAMPLES, 3], at=at).items():
            tree, effort = reach.tree, [reach.tree.rounds, reach.tree.searched]
            found[f"tree {metric} {samples}"] = [mark(tree.source, tree.target, tree.weight), *effort]
        found[f"foreign {metric}"] = mark(*nearest(few, words, K, at, metric=metric))
    found["within"] = mark(within(few, words, [0, 1.5, 4], at))
    found["labels"] = digest(HDBSCAN(12, SAMPLES).fit(words.numpy()).labels_.tobytes())
    return found


def reduced(at: Ranks) -> dict[str, Any]:
    """Least edges of components, in one key each and, of heavy and of float weights, in two."""
    draw, found = np.random.default_rng(4), {}
    for name, n, most in (("key", 1 << 20, 9), ("heavy", (1 << 31) - 1, 9), ("float", 50, 3), ("none", 50, 0)):
        weight = torch.from_numpy(draw.integers(0, most + 1, (12, 40)))
        ends = torch.from_numpy(np.sort(draw.integers(max(0, n - 40), n, (12, 40, 2)), 2))
        held = torch.from_numpy(draw.random((12, 40)) < 0.15) & (most > 0)
        held[3] = False
        kind = torch.float64 if name == "float" else torch.int32
        mine = torch.zeros(12, 40, dtype=torch.bool)
        mine[:, at.rank :: at.size] = True
        first = [least(weight[c], ends[c], held[c] & mine[c]) for c in range(12)]
        each = torch.tensor([edge or (0, 0, 0) for edge in first])
        told = torch.tensor([edge is not None for edge in first])
        got = agreed(at, told, each[:, 0].to(kind), each[:, 1], each[:, 2], n)
        wanted = [least(weight[c], ends[c], held[c]) for c in range(12)]
        for c, edge in enumerate(wanted if at.size > 1 else ()):
            assert (int(got[1][c]) >= n) == (edge is None), (name, c)
            assert edge is None or tuple(int(x[c]) for x in got) == edge, (name, c)
        found[name] = wanted
    return found


def least(weight: Tensor, ends: Tensor, held: Tensor) -> tuple[int, int, int] | None:
    """The least (weight, low, high) of some edges."""
    edges = [(w, *pair) for w, pair, h in zip(weight.tolist(), ends.tolist(), held.tolist(), strict=True) if h]
    return min(edges, default=None)


def killed(rank: int, attempt: str) -> None:
    """From now on this process dies in its first search of a round, if it is that rank in that attempt."""
    if os.environ["RANK"] == str(rank) and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == attempt:
        Packed.foreign = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "polykern":
        from polykern.cli import main

        killed(1, "0")
        sys.argv = ["polykern", *rest]
        main()
    made = {"moved": moved, "searched": searched, "reduced": reduced}
    print(json.dumps([made[name](ranks()) for name in (what, *rest)]))

"""Exact partitions of a plane, against the number of faces and beside regioncam.

Networks 2-w-w-w-1 of He's weights in [-1, 1]^2. Every run is a process of its own (`_child`): its CPU seconds and
the memory it adds are told. The peer holds its partition in memory, and is not asked for areas or neighbours.

The gate: the faces are as many as five programs count (2-16-16-16-1: 930), and their areas sum to the square's.
"""

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polykern_benches._child import Found, Job, apart
from polykern_benches._harness import Case, Measured, Setting, Trial
from polykern_benches._machine import threads
from polykern_benches.peers.regions import PEERS, Layers
from polykern_kernels._dispatch import Impl

WIDTHS, WARM = (128, 256, 512), 16
KNOWN = {16: 930, 32: 3897, 128: 56_887, 256: 262_431}  # counted by others
BESIDE = 256  # the peer takes 6 GB for it, and more than there is for the next
A_FACE = 25_000  # bytes that the peer takes for each
WAYS = ("memory", "folder")


def cases(setting: Setting) -> list[Case]:
    """Partitions of 57 thousand, 262 thousand and a million faces."""
    if setting.device != "cpu":
        return []
    return [_faces(setting, width) for width in setting.pick(WIDTHS, (32,))]


def _faces(setting: Setting, width: int) -> Case:
    peer = tuple(p for p in PEERS if p.name == "regioncam")
    return Case(
        operation="partition.faces",
        params={"width": width, "depth": 3},
        dtype="float64",
        cost=None,
        ways=tuple(Impl(way, lambda *args: None, lambda *args: None) for way in setting.pick(WAYS, WAYS[:1])),
        setup=lambda: _trial(width),
        peers=setting.pick(peer, ()) if width <= BESIDE else (),
        memory=A_FACE * KNOWN.get(width, 0) if width <= BESIDE else 2 << 30,
        heavy=width > WIDTHS[0],
        samples=3,
    )


def _trial(width: int) -> Trial:
    folder = tempfile.TemporaryDirectory(prefix="polykern-bench-")
    (Path(folder.name) / "width").write_text(str(width))
    number = threads(None)

    def run(way: str) -> Measured:
        found = apart("bench_partition", way, Path(folder.name), "cpu", number)
        found.told["faces"] = int(found.result["faces"])
        return found

    def holds(found: Found) -> bool:
        return bool(
            found["warm_faces"] == KNOWN[WARM]
            and found["faces"] == KNOWN.get(width, found["faces"])
            and abs(found["area"] - 4) < 1e-8
        )

    return Trial((torch.empty(0),), run, holds, close=folder.cleanup)


# --- in the child -------------------------------------------------------------------------------


def job(way: str, folder: Path, device: str) -> Job:
    """Ours, in memory or into a folder, or the peer."""
    width = int((folder / "width").read_text())
    return Job(lambda: _counted(way, WARM, folder / "warm"), lambda: _counted(way, width, folder / "faces"))


def _counted(way: str, width: int, out: Path) -> tuple[Found, dict[str, Any]]:
    layers = _layers([2, width, width, width, 1])
    if way not in WAYS:
        peer = next(p for p in PEERS if p.name == way)
        return {"faces": np.array(peer.run(layers, 1.0)), "area": np.array(4.0)}, {}
    found = _partition(layers, out if way == "folder" else None)
    told = {"bytes": sum(path.stat().st_size for path in out.iterdir())} if way == "folder" else {}
    return {"faces": np.array(len(found)), "area": np.array(found.area.sum())}, told


def _partition(layers: Layers, out: Path | None) -> Any:
    from polykern.models import Subject
    from polykern.plane import Window
    from polykern.subdivision import partition

    parts: list[nn.Module] = []
    for weight, bias in layers:
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.bias.data = weight, bias
        parts += [layer, nn.ReLU()]
    model = nn.Sequential(*parts[:-1]).eval()
    subject = Subject(model, "network", "random", torch.zeros(1, 2), examples=None)  # type: ignore[arg-type]
    plane = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    return partition(subject, plane, window=Window(0.0, 0.0, 2.0), out=out, overwrite=True)


def _layers(widths: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Weights float32 (out, in) and bias (out) of each layer, Gaussian after He."""
    rng, found = np.random.default_rng(0), []
    for fan_in, fan_out in pairwise(widths):
        weight, bias = rng.normal(size=(fan_out, fan_in)) * np.sqrt(2 / fan_in), 0.1 * rng.normal(size=fan_out)
        found.append((torch.from_numpy(weight).float(), torch.from_numpy(bias).float()))
    return found

"""Planes of small networks that the tests of the exploration look at, and tiles as they are sent."""

import json
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from polykern.explore import Exploration, bound
from polykern.maps.compute import Recipe
from polykern.plane import Grid, Plane
from polykern.tail import Tail


def recipe(
    engine: str = "tiles",
    *,
    smooth: bool = False,
    classes: bool = True,
    layers: Callable[[], list[nn.Module]] | None = None,
    stop: str = "",
    about: dict[str, Any] | None = None,
) -> Recipe:
    """A plane through three random points before a small network."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        kink = nn.GELU if smooth else nn.ReLU
        convolutions = [nn.Conv2d(1, 4, 3), kink(), nn.MaxPool2d(2), nn.Flatten()]
        net = nn.Sequential(
            *(layers() if layers else [*convolutions, nn.Linear(36, 20), kink(), nn.Linear(20, 4)])
        ).eval()
    tail = Tail(net, torch.zeros(1, 1, 8, 8), stop=stop)
    plane = Plane.through(torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(4)))
    return Recipe(tail, Grid(plane, plane.window(), 256), 2.0, engine=engine, classes=classes, about=about or {})


def frames(text: bytes) -> list[dict[str, Any]]:
    """What a stream holds but for signs of life: its lines, `counts` and `classes` as arrays (256, 256)."""
    found = []
    while text:
        line, _, text = text.partition(b"\n")
        head = json.loads(line)
        for name in ("counts", "classes"):
            if head.get(name):
                kind, size = head[name]
                planes = np.frombuffer(zlib.decompress(text[:size]), np.uint8).reshape(-1, 256 * 256)
                head[name] = np.ascontiguousarray(planes.T).view(f"<{kind}").reshape(256, 256)
                text = text[size:]
        found += [head] if head else []
    return found


@contextmanager
def served(exploration: Exploration) -> Iterator[int]:
    """A context in which the exploration is answered on the port that it gives."""
    with exploration, bound(exploration) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()

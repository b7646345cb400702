"""What ranks make together, as one process of several makes it: `python -m tests.engine.ranked WHAT FOLDER CORPUS`.

WHAT is "all" or "batches"; FATAL="r n" in the environment kills rank r when it would commit one more than n shards.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

import polykern as pk
from polykern.capturing import capture
from polykern.maps.compute import compute
from polykern.ranks import ranks
from polykern.store import Writer
from tests.engine.languages import small
from tests.engine.test_maps import recipe


def captured(out: Path, corpus: Path) -> None:
    """A store of tokens in a dozen shards."""
    capture(small(), corpus, out / "text.codes", length=16, shard_bytes=4000, batch=48, activations=["fp16"])


def batches(out: Path, corpus: Path) -> None:
    """A store of batches, each a shard; no corpus is read."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 40), nn.ReLU()).eval()
    data = list(torch.randn(60, 4, generator=torch.Generator().manual_seed(1)).split(7))
    capture(model, data, out / "batches.codes", shard_bytes=1)


def everything(out: Path, corpus: Path) -> None:
    """Stores of tokens and of batches, a map, spectra, embeddings."""
    captured(out, corpus)
    batches(out, corpus)
    compute(recipe(300), out / "map")
    found = [
        ("spectrum", pk.spectrum(pk.load("digits"), ["relu3"], groups=5, first=2, last=12)),
        ("of-store", pk.spectrum(pk.Store.open(out / "text.codes"), groups=3, first=2, last=12)),
        ("embeddings", pk.embeddings(small(), str(corpus), top=3, length=16, batch=48)),
    ]
    if ranks().first:
        for name, each in found:
            each.save(out / name, pictures=False)
    ranks().meet()


def dying(count: int) -> None:
    """Kill this process when it would commit one more than `count` shards."""
    real, left = Writer.write, count

    def write(self: Writer, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(self, *args, **kwargs)

    Writer.write = write  # type: ignore[method-assign]


if __name__ == "__main__":
    fatal = os.environ.get("FATAL", "").split()
    if fatal and fatal[0] == os.environ["RANK"]:
        dying(int(fatal[1]))
    {"all": everything, "batches": batches}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))

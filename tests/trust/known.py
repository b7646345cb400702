"""What is known of a store that grows (`tests.store.growing`): the model that a reader is held against."""

import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tests.store.synthetic as made_up
from polykern.codes import Codes
from polykern.store.examination import examine
from polykern.store.files import Folder
from tests.store import growing
from tests.store.growing import SHARDS

WHOLE = frozenset(range(SHARDS))


@dataclass(frozen=True)
class Known:
    """What lies in the folder.

    store      which; None: none that can be read
    committed  numbers of its shards
    complete   whether it was finished
    """

    store: int | None = None
    committed: frozenset[int] = field(default_factory=frozenset)
    complete: bool = False

    @property
    def prefix(self) -> int:
        """Shards from the first on without a gap: what a reader sees."""
        return next(k for k in range(SHARDS + 1) if k not in self.committed)


def found(path: Path) -> Known:
    """What a reader finds, after every byte was held against its digest."""
    if not (path / "manifest.json").exists():
        return Known()
    seen = examine(Folder(path), "full")
    assert seen.problems == []
    assert seen.manifest is not None
    committed = frozenset(record.shard for record in (*seen.records, *seen.apart))
    return Known(int(seen.manifest.config["seed"]), committed, seen.manifest.complete)


@cache
def committed_rows(known: Known) -> dict[str, Any]:
    """What a reader of it must see."""
    assert known.store is not None
    each = [growing.shard(known.store, k) for k in range(known.prefix)]
    columns = {
        n: np.concatenate([np.zeros(0, np.int32), *(s["columns"][n] for s in each)]) for n in made_up.COLUMNS
    }
    empty = Codes(torch.zeros(0, made_up.LAYOUT.words, dtype=torch.int32), made_up.LAYOUT)
    kept = [torch.zeros(0, 40).bfloat16(), *(s["activations"]["blocks.0.mlp"] for s in each)]
    return {"codes": Codes.cat([empty, *(s["codes"] for s in each)]), "columns": columns, "kept": torch.cat(kept)}


@cache
def undisturbed(store: int) -> dict[str, bytes]:
    """The files of a store that was written in one go."""
    with tempfile.TemporaryDirectory() as folder:
        growing.grow(Path(folder) / "a.codes", store, range(SHARDS), finish=True)
        return made_up.contents(Path(folder) / "a.codes")

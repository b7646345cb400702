"""Commit records: the small file that makes a shard part of the store, written last."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from polykern.store.manifest import MAX_ROWS, MAX_SHARDS, SCHEMA
from polykern.store.sealed import hexadecimal, number, sealed, the, unsealed

SHARDS, ITEMS = "shards", "items"
NUMBERED = re.compile(r"([0-9]{6})\.(json|safetensors)")
MAX_BYTES = 1 << 50


@dataclass(frozen=True, slots=True)
class Mark:
    """What a file must be: its name in the store, its size, its xxh3-128 in hexadecimal."""

    name: str
    bytes: int
    xxh3_128: str


@dataclass(frozen=True, slots=True)
class Record:
    """What one shard holds.

    shard        its number, from 0
    row0, rows   the rows of the store that it holds
    files        the shard, and the items beside it
    config_hash  of the store that it belongs to
    source       where its rows come from and where to go on; JSON, the caller's own
    """

    shard: int
    row0: int
    rows: int
    files: tuple[Mark, ...]
    config_hash: str
    source: Mapping[str, Any] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """The bytes of the record's file."""
        return sealed({"schema": SCHEMA, **asdict(self), "files": [asdict(f) for f in self.files]})

    @classmethod
    def decoded(cls, data: bytes, shard: int, items: bool) -> "Record":
        """The record of shard number `shard` in a file; ValueError says what is wrong with it.

        items  whether the store has items beside its shards
        """
        found = unsealed(data)
        if found.get("schema") != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        if number(found, "shard", 0, MAX_SHARDS - 1) != shard:
            raise ValueError(f"is the record of shard {found['shard']}")
        files = the(found, "files", list)
        wanted = [data_name(shard), items_name(shard)][: 1 + items]
        if [f.get("name") if isinstance(f, dict) else None for f in files] != wanted:
            raise ValueError(f"does not name the files {', '.join(wanted)}")
        return cls(
            shard=shard,
            row0=number(found, "row0", 0, MAX_ROWS),
            rows=number(found, "rows", 1, MAX_ROWS),
            files=tuple(
                Mark(f["name"], number(f, "bytes", 1, MAX_BYTES), hexadecimal(f, "xxh3_128", 32)) for f in files
            ),
            config_hash=hexadecimal(found, "config_hash", 64),
            source=the(found, "source", dict),
        )


def record_name(shard: int) -> str:
    """`shards/000000.json`."""
    return f"{SHARDS}/{shard:06d}.json"


def data_name(shard: int) -> str:
    """`shards/000000.safetensors`."""
    return f"{SHARDS}/{shard:06d}.safetensors"


def items_name(shard: int) -> str:
    """`items/000000.safetensors`."""
    return f"{ITEMS}/{shard:06d}.safetensors"

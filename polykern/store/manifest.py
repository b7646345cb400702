"""manifest.json: what a store of codes holds and what it was made from."""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch

from polykern.errors import UsageError
from polykern.layout import Field, Layout
from polykern.store.sealed import canonical, number, parsed, sealed, the, unsealed
from polykern.versions import recorded

SCHEMA = "polykern-codes/1"
MAX_BITS = 1 << 32
MAX_ROWS = 1 << 48
MAX_SHARDS = 1_000_000  # six digits name a shard
MAX_FIELDS = 1 << 16
MAX_UNITS = 1 << 32
MAX_AXES = 8
KINDS = ("text", "image")
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
RECORDED = ("polykern", "torch", "numpy")
COMPARED = ("layout", "columns", "activations", "items")


@dataclass(frozen=True, slots=True)
class Activation:
    """What is kept of the pre-activations of one field.

    dtype   torch.float16, torch.bfloat16 or torch.float32
    shape   of one row
    """

    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """What a store holds.

    config       what determines every byte of the store; JSON. A store of another config is refused (exit 6)
    layout       which bit is which unit
    columns      names of the int32 columns, in their order: "doc", "pos", "token" or any
    activations  name of a field (or any name) -> what is kept of it
    items        what the columns doc and pos point into: "text", "image" or None
    about        for people: names, notes; JSON. Not compared when a run is resumed
    versions     of the packages that began the store
    complete     whether every shard is there
    rows         how many, None while it is made
    shards       how many, None while it is made

    Errors: UsageError for names or values that a store cannot hold.
    """

    config: Mapping[str, Any]
    layout: Layout
    columns: tuple[str, ...] = ()
    activations: Mapping[str, Activation] = field(default_factory=dict)
    items: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=partial(recorded, *RECORDED))
    complete: bool = False
    rows: int | None = None
    shards: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        try:
            for name in ("config", "about", "versions"):  # as they will be read again
                object.__setattr__(self, name, parsed(canonical(dict(getattr(self, name)))))
            _require_possible(self)
        except (TypeError, ValueError) as reason:
            raise UsageError(f"a store cannot hold this: {reason}") from None

    @cached_property
    def config_hash(self) -> str:
        """sha256 of the canonical form of the config, 64 hexadecimal digits."""
        return hashlib.sha256(canonical(self.config)).hexdigest()

    @property
    def words64(self) -> int:
        """64-bit words of a code on disk."""
        return -(-self.layout.bits // 64)

    def finished(self, rows: int, shards: int, about: Mapping[str, Any]) -> "Manifest":
        """The manifest of the complete store; `about` is added to what is said already."""
        more = {**self.about, **about}
        return replace(self, complete=True, rows=rows, shards=shards, about=more)

    def encoded(self) -> bytes:
        """The bytes of manifest.json."""
        return sealed(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The object in manifest.json, without its `check`."""
        names = {dtype: name for name, dtype in DTYPES.items()}
        kept = {k: {"dtype": names[a.dtype], "shape": list(a.shape)} for k, a in self.activations.items()}
        return {
            "schema": SCHEMA,
            "complete": self.complete,
            "rows": self.rows,
            "shards": self.shards,
            "config": dict(self.config),
            "config_hash": self.config_hash,
            "layout": _described(self.layout),
            "columns": list(self.columns),
            "activations": kept,
            "items": self.items,
            "about": dict(self.about),
            "versions": dict(self.versions),
        }

    @classmethod
    def decoded(cls, data: bytes) -> "Manifest":
        """The manifest in a file; ValueError says what is wrong with it."""
        schema = parsed(data).get("schema")
        if schema != SCHEMA:
            raise ValueError(f"its schema is {schema!r}, this version of polykern reads {SCHEMA!r}")
        found = unsealed(data)
        complete = the(found, "complete", bool)
        if not all(type(v) in (str, type(None)) for v in the(found, "versions", dict).values()):
            raise ValueError("versions are no names of versions")
        kept = the(found, "activations", dict)
        try:
            manifest = cls(
                config=the(found, "config", dict),
                layout=_layout(the(found, "layout", dict)),
                columns=tuple(the(found, "columns", list)),
                activations={name: _activation(entry) for name, entry in kept.items()},
                items=the(found, "items", str, type(None)),
                about=the(found, "about", dict),
                versions=the(found, "versions", dict),
                complete=complete,
                rows=number(found, "rows", 0, MAX_ROWS) if complete else None,
                shards=number(found, "shards", 0, MAX_SHARDS) if complete else None,
            )
        except UsageError as reason:
            raise ValueError(str(reason)) from None
        if manifest.config_hash != the(found, "config_hash", str):
            raise ValueError("config_hash is not the hash of the config")
        return manifest

    def differences(self, other: "Manifest") -> dict[str, tuple[Any, Any]]:
        """What keeps two runs from one store: dotted name -> (here, in the other)."""
        mine, theirs = ({**dict(_leaves(m.config, "config")), **_compared(m)} for m in (self, other))
        names = [*mine, *(k for k in theirs if k not in mine)]
        absent = "nothing"
        pairs = {k: (mine.get(k, absent), theirs.get(k, absent)) for k in names}
        return {k: (a, b) for k, (a, b) in pairs.items() if canonical(a) != canonical(b)}


def _compared(manifest: Manifest) -> dict[str, Any]:
    whole = manifest.as_dict()
    return {key: whole[key] for key in COMPARED}


def _leaves(value: Any, at: str) -> Iterator[tuple[str, Any]]:
    """Dotted names of everything in nested tables."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{at}.{key}")
    else:
        yield at, value


def _require_possible(m: Manifest) -> None:
    """Raise ValueError for what cannot be in a store."""
    if not 1 <= m.layout.bits <= MAX_BITS:
        raise ValueError(f"codes of {m.layout.bits} bits, not 1 .. {MAX_BITS}")
    if Layout.of(m.layout.fields) != m.layout:
        raise ValueError("the fields of the layout do not follow each other")
    _layout(parsed(canonical(_described(m.layout))))  # as it will be read again
    for name in m.columns:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name) or name == "codes":
            raise ValueError(f"{name!r} is no name of a column")
    if len(set(m.columns)) != len(m.columns):
        raise ValueError("a column is there twice")
    if m.items not in (None, *KINDS):
        raise ValueError(f"items are {m.items!r}, not one of {', '.join(KINDS)}")
    if m.items and not {"doc", "pos"} <= set(m.columns):
        raise ValueError("items need the columns doc and pos, which point into them")
    for name, kept in m.activations.items():
        if not name or len(name) > 1024 or kept.dtype not in DTYPES.values():
            raise ValueError(f"activations of {name!r} in {kept.dtype}, not one of {', '.join(DTYPES)}")
        if (
            not 1 <= math.prod(kept.shape) <= MAX_UNITS
            or min(kept.shape, default=1) < 1
            or len(kept.shape) > MAX_AXES
        ):
            raise ValueError(f"activations of {name!r} of shape {list(kept.shape)}")


def _described(layout: Layout) -> dict[str, Any]:
    return {"bits": layout.bits, "fields": [{**asdict(f), "bits": f.bits} for f in layout.fields]}


def _layout(found: dict[str, Any]) -> Layout:
    entries = the(found, "fields", list)
    if not 1 <= len(entries) <= MAX_FIELDS or not all(isinstance(e, dict) for e in entries):
        raise ValueError("layout.fields is no list of fields")
    fields = tuple(_field(e) for e in entries)
    layout = Layout(fields)
    if [the(e, "bits", int) for e in entries] != [f.bits for f in fields] or layout.bits != the(found, "bits", int):
        raise ValueError("the bits in the layout do not add up")
    return layout


def _field(found: dict[str, Any]) -> Field:
    thresholds = the(found, "thresholds", list)
    if not thresholds or not all(type(t) in (int, float) and math.isfinite(t) for t in thresholds):
        raise ValueError("thresholds are no finite numbers")
    return Field(
        module=the(found, "module", str),
        call=number(found, "call", 0, MAX_FIELDS),
        kind=the(found, "kind", str),
        shape=_shape(found),
        thresholds=tuple(float(t) for t in thresholds),
        offset=number(found, "offset", 0, MAX_BITS),
    )


def _activation(found: Any) -> Activation:
    if not isinstance(found, dict) or the(found, "dtype", str) not in DTYPES:
        raise ValueError(f"activations are not of one of {', '.join(DTYPES)}")
    return Activation(DTYPES[found["dtype"]], _shape(found))


def _shape(found: dict[str, Any]) -> tuple[int, ...]:
    shape = the(found, "shape", list)
    if len(shape) > MAX_AXES or not all(type(s) is int and 1 <= s <= MAX_BITS for s in shape):
        raise ValueError("a shape is no list of positive sizes")
    return tuple(shape)

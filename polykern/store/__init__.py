"""Stores of packed codes on disk: `polykern-codes/1`, written down in docs/FORMAT.md.

`Writer` commits shard after shard and survives whatever kills it; `Store` reads what was committed; `verify` names
every file that is not what it should be.
"""

from polykern.store.examination import Problem, verify
from polykern.store.items import Context, Pictures, Texts
from polykern.store.manifest import SCHEMA, Activation, Manifest
from polykern.store.reader import Store
from polykern.store.records import Record
from polykern.store.rows import Rows
from polykern.store.writer import Writer

__all__ = [
    "SCHEMA", "Activation", "Context", "Manifest", "Pictures", "Problem", "Record", "Rows", "Store", "Texts",
    "Writer", "verify",
]  # fmt: skip

"""docs/FORMAT.md tells the truth about stores: its examples are read, its reader reads."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import tests.store.synthetic as made_up
from polykern.store import SCHEMA, Manifest, Record, Store
from polykern.store.shard import ITEMS_OF, read_head

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/polykern-codes-1/text.codes"


def page() -> str:
    """The part of the page about stores."""
    whole = (ROOT / "docs/FORMAT.md").read_text(encoding="utf-8")
    return whole.partition("## `polykern-codes/1`")[2].partition("\n## ")[0]


def examples() -> list[bytes]:
    return [block.encode() for block in re.findall(r"```json\n(.*?)```", page(), re.DOTALL)]


def test_the_examples_are_those_of_a_store() -> None:
    """Spelled otherwise than polykern spells them, with checks that agree."""
    manifest, record = examples()
    assert Manifest.decoded(manifest) == Store.open(GOLDEN).manifest
    assert Record.decoded(record, 1, True) == Store.open(GOLDEN).records[1]
    for text, file in ((manifest, "manifest.json"), (record, "shards/000001.json")):
        assert json.loads(text) == json.loads((GOLDEN / file).read_bytes())
    assert json.loads(manifest)["schema"] == SCHEMA


def test_the_reader_on_the_page_reads(tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", page(), re.DOTALL)
    assert found
    made_up.write(tmp_path / "a.codes")
    line = [sys.executable, "-I", "-c", found[1], str(tmp_path / "a.codes")]
    said = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
    bits = Store.open(tmp_path / "a.codes").rows().codes.bits().numpy().astype(np.uint8)
    assert said == ["".join(map(str, row)) for row in bits]


def test_the_tables_name_every_array_in_its_place(pristine: Path) -> None:
    rows: list[tuple[str, str]] = re.findall(r"^\| `(\w+)` \| (\w+)", page(), re.MULTILINE)
    for file, table in (("shards/000001.safetensors", rows[:1]), ("items/000001.safetensors", rows[1:6])):
        tensors, said = read_head(pristine / file)
        assert said.keys() == {"schema", "part", "shard", "row0", "rows", "config_hash"}
        named = [(name, t.dtype) for name, t in tensors.items()]
        assert named[: len(table)] == table
        behind = [name for name, _ in named[len(table) :]]
        assert behind == ([*made_up.COLUMNS, "activations.blocks.0.mlp"] if len(table) == 1 else [])
    assert rows[6:] == list(ITEMS_OF["image"].items())

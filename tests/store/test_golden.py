"""Stores written by earlier versions open forever, and this version writes the same bytes.

tests/golden/polykern-codes-1 was written by the first version of `polykern-codes/1`; it is never written again.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import tests.store.synthetic as made_up
from polykern.codes import Codes
from polykern.layout import Field, Layout
from polykern.store import Activation, Manifest, Pictures, Store, Texts, Writer, verify

GOLDEN = Path(__file__).parents[1] / "golden" / "polykern-codes-1"
LAYOUT = Layout.of([Field("up", 0, "relu", (2, 3), (0.0,), 0), Field("out", 1, "gelu", (20,), (-0.5, 0.0), 0)])
WORDS = [[0b000001, 0], [0b100000, 1 << 13], [-1, (1 << 14) - 1], [0, 0], [-(1 << 31), 5]]
VERSIONS = {"polykern": "0.1.0", "torch": "2.13.0", "absent": None}
PNG = b"\x89PNG\r\n\x1a\n, or so it says"


def codes(rows: slice) -> Codes:
    return Codes(torch.tensor(WORDS[rows], dtype=torch.int32), LAYOUT)


def write_text(path: Path) -> None:
    """A store of two shards with everything that a store of text can hold."""
    kept = {"out": Activation(torch.bfloat16, (2,)), "up": Activation(torch.float16, (1, 3)),
            "norm": Activation(torch.float32, ())}  # fmt: skip
    manifest = Manifest(
        config={"model": "gold", "layers": ["up", "out"], "temperature": 0.1, "name": "déjà vu"},
        layout=LAYOUT, columns=("doc", "pos", "token"), activations=kept, items="text",
        about={"note": "written once"}, versions=VERSIONS,
    )  # fmt: skip
    texts = [
        Texts.of([(3, [11, 12], [" a", "é"]), (4, [13, 14], ["字".encode()[:1], "字".encode()[1:]])]),
        Texts.of([(9, [15], [b"\xff"]), (10, [], [])]),
    ]
    columns = {"doc": np.array([3, 3, 4, 4, 9]), "pos": np.array([0, 1, 0, 1, 0]), "token": np.arange(11, 16)}
    with Writer.open(path, manifest) as writer:
        for rows, items in zip((slice(0, 3), slice(3, 5)), texts, strict=True):
            x = torch.arange(5.0)[rows]
            given = {
                "out": torch.stack([x, -x / 3], 1).bfloat16(),
                "up": (x[:, None, None] + torch.tensor([0.5, 1.5, 2.5])).half(),
                "norm": x / 7,
            }
            writer.write(codes(rows), {k: c[rows] for k, c in columns.items()}, given, items, {"stop": rows.stop})
        writer.finish()


def write_pictures(path: Path) -> None:
    """A store of pictures that is not finished."""
    manifest = Manifest({}, LAYOUT, ("doc", "pos"), items="image", versions=VERSIONS)
    with Writer.open(path, manifest) as writer:
        columns = {"doc": np.array([7, 7]), "pos": np.array([0, 1])}
        writer.write(codes(slice(0, 2)), columns, items=Pictures.of([(7, PNG)]))


def test_the_text() -> None:
    path = GOLDEN / "text.codes"
    assert verify(path) == []
    store = Store.open(path, verify="full")
    assert store.complete
    assert store.config["name"] == "déjà vu"
    assert store.config_hash == "2dccf955304cd636fa141cb00961add7f201ebd85c9be8aeefc761640459823b"
    assert store.about == {"note": "written once"}
    assert [r.source for r in store.records] == [{"stop": 3}, {"stop": 5}]
    rows = store.rows(activations=["out", "up", "norm"])
    assert rows.codes == codes(slice(0, 5))
    assert {k: c.tolist() for k, c in rows.columns.items()} == {
        "doc": [3, 3, 4, 4, 9], "pos": [0, 1, 0, 1, 0], "token": [11, 12, 13, 14, 15],
    }  # fmt: skip
    assert rows.activations["out"].tolist()[3] == [3.0, -1.0]
    assert rows.activations["up"].tolist()[4] == [[4.5, 5.5, 6.5]]
    assert rows.activations["norm"].tolist() == (torch.arange(5.0) / 7).tolist()
    assert [store.context(k, 1, 1).pieces for k in range(5)] == [
        [" a", "é"],
        [" a", "é"],
        ["字", ""],
        ["", "字"],
        ["�"],
    ]


def test_the_pictures() -> None:
    store = Store.open(GOLDEN / "pictures.codes", verify="full")
    assert not store.complete
    assert store.image(7) == PNG
    assert store.rows().codes == codes(slice(0, 2))


@pytest.mark.parametrize(("name", "write"), [("text", write_text), ("pictures", write_pictures)])
def test_this_version_writes_the_same_bytes(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / "a.codes")
    assert made_up.contents(tmp_path / "a.codes") == made_up.contents(GOLDEN / f"{name}.codes")

"""What is written is read: codes, columns, activations and items, however rows are selected."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tests.store.synthetic as made_up
from polykern.errors import CorruptError, ResourceError, UsageError
from polykern.layout import Field, Layout
from polykern.store import Activation, Manifest, Pictures, Store, Texts, Writer, verify

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Up to four fields of up to 70 units with one or two thresholds."""
    thresholds = st.sampled_from([(0.0,), (-1.0, 0.5)])
    sizes = draw(st.lists(st.tuples(st.integers(1, 70), thresholds), min_size=1, max_size=4))
    return Layout.of([Field(f"m{k}", 0, "relu", (units,), t, 0) for k, (units, t) in enumerate(sizes)])


@st.composite
def selections(draw: st.DrawFn, n: int) -> Any:
    """Every way to choose rows out of n."""
    kind = draw(st.sampled_from(["all", "slice", "list", "array", "tensor", "mask"]))
    if kind == "all":
        return None
    if kind == "slice":
        return draw(st.slices(n))
    if kind == "mask":
        return np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), np.bool_)
    index = draw(st.lists(st.integers(-n, n - 1), max_size=2 * n))
    return index if kind == "list" else np.array(index, np.int32) if kind == "array" else torch.tensor(index)


def plain(chosen: Any) -> Any:
    """What numpy takes for the same selection."""
    if chosen is None:
        return slice(None)
    if isinstance(chosen, torch.Tensor):
        return chosen.long().numpy()
    return chosen if isinstance(chosen, slice | np.ndarray) else np.array(chosen, np.int64)


@SLOW
@given(data=st.data())
def test_rows_are_what_was_written(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    layout = data.draw(layouts())
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    names = data.draw(st.lists(st.sampled_from(["doc", "pos", "token", "x_1"]), unique=True))
    dtype = data.draw(st.sampled_from(DTYPES))
    n = sum(sizes)
    codes = made_up.codes(n, len(sizes), layout)
    rng = np.random.default_rng(n)
    columns = {k: rng.integers(-(2**31), 2**31, n) for k in names}
    kept = torch.from_numpy(rng.standard_normal((n, 3, 2), np.float32)).to(dtype)
    path = tmp_path_factory.mktemp("store") / "a.codes"
    manifest = Manifest({}, layout, tuple(names), {"any name": Activation(dtype, (3, 2))})
    with Writer.open(path, manifest) as writer:
        for start, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
            part = slice(int(start), int(start) + size)
            writer.write(codes[part], {k: c[part] for k, c in columns.items()}, {"any name": kept[part]})
        writer.finish()

    store = Store.open(path, verify="full")
    chosen = data.draw(selections(n))
    fields = data.draw(st.none() | st.lists(st.sampled_from([f.name for f in layout.fields]), min_size=1))
    rows = store.rows(chosen, fields, activations=["any name"])
    index = np.arange(n)[plain(chosen)].copy()
    np.testing.assert_array_equal(rows.index, index)
    truth = codes[torch.from_numpy(index)]
    assert rows.codes == (truth if fields is None else truth.field(*fields))
    assert rows.columns.keys() == columns.keys()
    for name, column in columns.items():
        np.testing.assert_array_equal(rows.columns[name], column[index])
        np.testing.assert_array_equal(store.column(name), column)
        assert rows.columns[name].dtype == np.int32
    assert torch.equal(rows.activations["any name"], kept[torch.from_numpy(index)])
    assert rows.activations["any name"].dtype == dtype
    assert len(store) == n
    assert [len(s) for s in store.shards()] == sizes
    assert [s.row0 for s in store.shards()] == [r.row0 for r in store.records]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made_up.write(tmp_path / "a.codes")
    return Store.open(tmp_path / "a.codes")


def test_a_store_says_what_it_holds(store: Store) -> None:
    assert (store.complete, store.layout, store.columns, store.items) == (
        True, made_up.LAYOUT, made_up.COLUMNS, "text",
    )  # fmt: skip
    assert store.config == made_up.CONFIG
    assert store.about["note"].startswith("an example")
    assert len(store.records) == 3
    assert store.nbytes == sum(p.stat().st_size for p in Path(store.path).rglob("*.safetensors"))
    made_up.require_rows(store.rows(activations=["blocks.0.mlp"]), 3)


def test_a_store_without_rows(tmp_path: Path) -> None:
    made_up.write(tmp_path / "a.codes", 0)
    store = Store.open(tmp_path / "a.codes", verify="full")
    assert (len(store), len(store.rows()), list(store.shards())) == (0, 0, [])
    assert store.column("doc").shape == (0,)


def test_only_what_is_committed_is_seen_while_it_is_written(tmp_path: Path) -> None:
    with Writer.open(tmp_path / "a.codes", made_up.manifest()) as writer:
        for k in range(3):
            writer.write(**made_up.shard(k))
            (tmp_path / "a.codes/shards" / f"{k + 1:06d}.safetensors").write_bytes(b"torn")
            store = Store.open(tmp_path / "a.codes", verify="full")
            assert not store.complete
            made_up.require_rows(store.rows(), k + 1)
        writer.finish()
    assert made_up.contents(tmp_path / "a.codes")["shards/000003.safetensors"] == b"torn"
    assert verify(tmp_path / "a.codes") == []


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    made_up.write(tmp_path / "a.codes")
    for shards in range(4):
        made_up.write(tmp_path / "b.codes", shards, finish=False)
    made_up.write(tmp_path / "b.codes")
    assert made_up.contents(tmp_path / "a.codes") == made_up.contents(tmp_path / "b.codes")
    assert Store.open(tmp_path / "a.codes").fingerprint == Store.open(tmp_path / "b.codes").fingerprint


# --- without polykern ------------------------------------------------------------------------------


def test_a_shard_is_a_safetensors_file(store: Store) -> None:
    path = Path(store.path) / "shards/000001.safetensors"
    truth = made_up.shard(1)
    with safetensors.safe_open(path, "np") as file:  # load_file has no bfloat16
        codes, token = file.get_tensor("codes"), file.get_tensor("token")
    np.testing.assert_array_equal(codes.view(np.int32)[:, : made_up.LAYOUT.words], truth["codes"].words.numpy())
    np.testing.assert_array_equal(token, truth["columns"]["token"])
    tensors = safetensors.torch.load_file(path)
    assert torch.equal(tensors["activations.blocks.0.mlp"], truth["activations"]["blocks.0.mlp"])


def test_a_shard_is_read_with_json_and_numpy(store: Store) -> None:
    """As docs/FORMAT.md says, at a multiple of a page."""
    data = (Path(store.path) / "shards/000002.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert (8 + length) % 4096 == 0
    header = json.loads(data[8 : 8 + length])
    begin, end = header["codes"]["data_offsets"]
    codes = np.frombuffer(data[8 + length :][begin:end], "<u8").reshape(header["codes"]["shape"])
    bits = np.unpackbits(codes.view(np.uint8), axis=1, bitorder="little")[:, : made_up.LAYOUT.bits]
    np.testing.assert_array_equal(bits.astype(bool), made_up.shard(2)["codes"].bits().numpy())


# --- items -----------------------------------------------------------------------------------------


def test_a_row_is_found_in_its_text(store: Store) -> None:
    n = len(made_up.shard(0)["columns"]["doc"])
    token = made_up.shard(1)["columns"]["token"]
    around = store.context(n + 2, before=1, after=1)
    assert around.pieces == [f" w{t}" for t in token[1:4]]
    assert (around.at, around.doc, around.pos, around.start, around.length) == (1, 1, 2, 1, len(token))
    assert store.context(n, before=5, after=0).pieces == [f" w{token[0]}"]
    assert store.context(-1, before=1, after=9).pieces == ["", "é"]
    assert store.context(n - 2, before=0, after=1).pieces == ["é", ""]


@given(st.binary(max_size=30), st.data())
def test_pieces_join_to_the_text_whatever_the_bytes(raw: bytes, data: st.DataObject) -> None:
    from polykern.store.items import characters

    text = raw if data.draw(st.booleans()) else data.draw(st.text(max_size=12)).encode()
    bounds = [0, *sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=9))), len(text)]
    at = data.draw(st.integers(0, len(bounds) - 2))
    pieces = characters(text, bounds, at)
    assert len(pieces) == len(bounds) - 1
    if text.decode("utf-8", "ignore").encode() == text:
        assert "".join(pieces) == text.decode()
        if bounds[at] < bounds[at + 1]:
            assert pieces[at]
            assert pieces[at].encode() in text
    "".join(pieces).encode()


@given(st.lists(st.text(st.characters(), max_size=5), min_size=1, max_size=6))
def test_any_text_is_kept_and_read(pieces: list[str]) -> None:
    from polykern.store.items import context

    texts = Texts.of([(3, range(len(pieces)), pieces), (9, [7], [b"\xff\xfe"])])
    found = {name: getattr(texts, name) for name in ("document", "document_ends", "tokens", "piece_ends", "utf8")}
    assert context(found, 1, 0, 5, 5).pieces == ["��"]
    read = context(found, 0, 0, 0, len(pieces)).pieces
    if not any(0xD800 <= ord(c) < 0xE000 for piece in pieces for c in piece):
        assert read == pieces


def test_documents_of_other_shards_and_of_none(tmp_path: Path) -> None:
    manifest = made_up.manifest(columns=("doc", "pos"), activations={})
    with Writer.open(tmp_path / "a.codes", manifest) as writer:
        rows = {"codes": made_up.codes(2, 0), "columns": {"doc": np.array([5, 8]), "pos": np.array([0, 3])}}
        writer.write(**rows, items=Texts.of([(5, [1], ["first"])]))  # type: ignore[arg-type]
        writer.write(**rows, items=Texts.of([(8, [1] * 4, "abcd"), (5, [1], ["again"])]))  # type: ignore[arg-type]
    store = Store.open(tmp_path / "a.codes", verify="full")
    assert [store.context(row, 0, 0).pieces for row in range(4)] == [["first"], ["d"], ["again"], ["d"]]
    with pytest.raises(UsageError, match="not image"):
        store.image(5)


def test_pictures(tmp_path: Path) -> None:
    manifest = made_up.manifest(columns=("doc", "pos"), activations={}, items="image")
    columns = {"doc": np.array([4, 4]), "pos": np.array([0, 1])}
    with Writer.open(tmp_path / "a.codes", manifest) as writer:
        writer.write(made_up.codes(2, 0), columns, items=Pictures.of([(4, b"\x89PNG 4"), (2, b""), (3, b"x")]))
    store = Store.open(tmp_path / "a.codes", verify="full")
    assert [store.image(doc) for doc in (4, 2, 3)] == [b"\x89PNG 4", b"", b"x"]
    with pytest.raises(UsageError, match="no document 7"):
        store.image(7)
    with pytest.raises(UsageError, match="are image, not text"):
        store.context(0)


# --- what does not fit -----------------------------------------------------------------------------


def changed(**changes: Any) -> dict[str, Any]:
    return made_up.shard(0) | changes


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another layout": (changed(codes=made_up.codes(5, 0, Layout.of(made_up.LAYOUT.fields[:1]))), "layouts"),
    "no rows": (changed(codes=made_up.codes(0, 0)), "0 rows"),
    "a column is missing": (changed(columns={}), "columns are \\[\\]"),
    "a short column": (
        changed(columns={k: np.zeros(4, np.int32) for k in made_up.COLUMNS}), "not integers \\[5\\]",
    ),
    "a column of floats": (changed(columns={k: np.zeros(5) for k in made_up.COLUMNS}), "float64"),
    "a column beyond int32": (changed(columns={k: np.full(5, 2**31) for k in made_up.COLUMNS}), "int32"),
    "other activations": (changed(activations={"x": torch.zeros(5, 40)}), "activations are"),
    "another dtype": (changed(activations={"blocks.0.mlp": torch.zeros(5, 40)}), "bfloat16"),
    "no items": (changed(items=None), "items are None"),
    "pictures": (changed(items=Pictures.of([])), "items are image"),
    "a document twice": (changed(items=Texts.of([(1, [], []), (1, [], [])])), "twice"),
    "a source that is no JSON": (changed(source={"x": b"bytes"}), "no JSON"),
}  # fmt: skip


def fields(*of: tuple[int, float, int]) -> Layout:
    """A layout of fields with so many units, a threshold and a call."""
    return Layout.of([Field(f"m{k}", c, "relu", (n,), (t,), 0) for k, (n, t, c) in enumerate(of)])


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused_and_harmless(tmp_path: Path, name: str) -> None:
    shard, told = BAD[name]
    with Writer.open(tmp_path / "a.codes", made_up.manifest()) as writer:
        with pytest.raises(UsageError, match=told):
            writer.write(**shard)
        writer.write(**made_up.shard(0))
    made_up.write(tmp_path / "a.codes")
    made_up.write(tmp_path / "b.codes")
    assert made_up.contents(tmp_path / "a.codes") == made_up.contents(tmp_path / "b.codes")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"columns": ("doc", "pos", "codes")}, "'codes' is no name of a column"),
        ({"columns": ("doc", "pos", "a.b")}, "'a.b' is no name of a column"),
        ({"columns": ("doc", "doc", "pos")}, "a column is there twice"),
        ({"columns": ("token",)}, "items need the columns doc and pos"),
        ({"items": "sound"}, "items are 'sound'"),
        ({"activations": {"a": Activation(torch.float64, (1,))}}, "'a' in torch.float64"),
        ({"activations": {"a": Activation(torch.float32, (0,))}}, r"'a' of shape \[0\]"),
        (
            {"activations": {"a": Activation(torch.float32, (1,) * 9)}},
            r"'a' of shape \[1, 1, 1, 1, 1, 1, 1, 1, 1\]",
        ),
        ({"config": {"a": float("nan")}}, "JSON"),
        ({"config": {"a": b"bytes"}}, "bytes is not JSON"),
        ({"about": {"a": {1}}}, "set is not JSON"),
        ({"layout": Layout(())}, "codes of 0 bits"),
        ({"layout": fields((0, 0.0, 0), (3, 0.0, 0))}, "a shape is no list of positive sizes"),
        ({"layout": fields((3, float("inf"), 0))}, "JSON"),
        ({"layout": fields((3, 0.0, -1))}, "call is not within 0"),
    ],
    ids=repr,
)
def test_a_manifest_that_no_store_can_have(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=f"a store cannot hold this: .*{told}"):
        made_up.manifest(**changes)


def test_rows_and_names_that_are_not_there(store: Store) -> None:
    n = len(store)
    wrong: Any
    for wrong in ([n], [-n - 1], np.zeros(n - 1, np.bool_), np.zeros((2, 2), np.int64), [0.5]):
        with pytest.raises(UsageError, match=r"row|mask"):
            store.rows(wrong)
    with pytest.raises(UsageError, match="doc, pos, token"):
        store.column("dok")
    with pytest.raises(UsageError, match=r"blocks\.0\.mlp"):
        store.activations("blocks.1.mlp")
    with pytest.raises(UsageError, match="nearest names"):
        store.rows(fields=["blocks.0.mpl"])


def test_a_complete_store_takes_nothing_more(tmp_path: Path) -> None:
    made_up.write(tmp_path / "a.codes")
    before = made_up.contents(tmp_path / "a.codes")
    with Writer.open(tmp_path / "a.codes", made_up.manifest()) as writer:
        assert writer.complete
        assert (writer.next, writer.rows, writer.resume) == (3, 18, {"next_document": 3})
        with pytest.raises(UsageError, match="complete"):
            writer.write(**made_up.shard(3))
        writer.finish()
    assert made_up.contents(tmp_path / "a.codes") == before
    with pytest.raises(UsageError, match="complete"):
        writer.write(**made_up.shard(3))


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with Writer.open(tmp_path / "a.codes", made_up.manifest()) as writer:
        writer.write(**made_up.shard(0))
        with pytest.raises(ResourceError, match="process"):
            Writer.open(tmp_path / "a.codes", made_up.manifest())
        with pytest.raises(ResourceError, match="process"):
            Writer.open(tmp_path / "a.codes", made_up.manifest(), overwrite=True)
        writer.write(**made_up.shard(1))
    with pytest.raises(UsageError, match="ended"):
        writer.write(**made_up.shard(2))
    made_up.write(tmp_path / "a.codes")
    assert len(Store.open(tmp_path / "a.codes", verify="full").records) == 3


def test_whoever_finishes_counts_what_others_committed(tmp_path: Path) -> None:
    """Also what a writer never looked at."""
    path = tmp_path / "a.codes"
    with Writer.open(path, made_up.manifest(), shared=True) as last:
        with Writer.open(path, made_up.manifest(), shared=True) as first:
            for k in range(3):
                first.write(**made_up.shard(k))
        assert last.finish().shards == 3
    assert verify(path) == []
    assert len(Store.open(path).records) == 3


def test_a_record_of_another_writer_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.codes"
    with Writer.open(path, made_up.manifest(), shared=True) as one:
        (path / "shards" / "000000.json").write_text("{")
        with pytest.raises(CorruptError, match=r"shards/000000\.json"):
            one.claim(0)


def test_codes_of_both_word_counts_lie_in_64_bits(tmp_path: Path) -> None:
    """An odd number of 32-bit words is padded with a zero word."""
    for units in (32, 33, 64, 65):
        layout = Layout.of([Field("m", 0, "relu", (units,), (0.0,), 0)])
        path = tmp_path / f"{units}.codes"
        with Writer.open(path, Manifest({}, layout)) as writer:
            writer.write(codes := made_up.codes(3, units, layout), {})
        stored = safetensors.numpy.load_file(path / "shards/000000.safetensors")["codes"]
        assert stored.shape == (3, -(-units // 64))
        assert Store.open(path, verify="full").rows().codes == codes


def test_a_lock_that_is_given_back_while_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is gone by then: a lock on it would keep nobody away."""
    import fcntl

    from polykern.store.lease import Lease

    first, real = Lease(tmp_path), fcntl.flock

    def late(descriptor: int, how: int) -> None:
        first.release()
        real(descriptor, how)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", late)
        second = Lease(tmp_path)
    with pytest.raises(ResourceError, match="process"):
        Lease(tmp_path)
    second.release()
    assert list(tmp_path.iterdir()) == []

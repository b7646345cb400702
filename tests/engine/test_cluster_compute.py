"""From a store to clusters: equal to the estimator, resumable, one search for many sizes, bad input named."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from polykern.clustering.compute import cluster, sweep
from polykern.clustering.estimator import HDBSCAN
from polykern.clustering.plan import plan
from polykern.clustering.recipe import prepare
from polykern.clustering.result import ABOUT, FILES, Clusters
from polykern.clustering.space import Packed
from polykern.errors import CorruptError, MismatchError, MissingExtra, ResourceError, UsageError
from polykern.report.clusters import write as write_report
from polykern.store import Store
from polykern_kernels import hamming
from tests.engine.stores import codes, planted, written

ROWS = 400


@pytest.fixture(scope="module")
def bits() -> NDArray[np.bool_]:
    found, _ = planted(ROWS)
    found[7] = found[3]  # equal rows
    found[301] = found[3]
    return found


@pytest.fixture(scope="module")
def store(bits: NDArray[np.bool_], tmp_path_factory: pytest.TempPathFactory) -> Store:
    return written(tmp_path_factory.mktemp("codes") / "some.codes", bits, activations=("body.0",))


def one(store: Store, out: Path, **how: Any) -> Clusters:
    (found,) = cluster(store, out, **how)
    return found


def same(a: Clusters, b: Clusters) -> bool:
    """Whether two results hold the same arrays, byte by byte."""
    return all(
        (a.folder / f"{f}.safetensors").read_bytes() == (b.folder / f"{f}.safetensors").read_bytes() for f in FILES
    )


@pytest.mark.parametrize("metric", ["hamming", "jaccard"])
@pytest.mark.parametrize("method", ["eom", "leaf"])
def test_it_is_what_the_estimator_finds(
    store: Store, bits: NDArray[np.bool_], tmp_path: Path, metric: str, method: str
) -> None:
    found = one(store, tmp_path, metric=metric, min_cluster_size=12, min_samples=4, method=method)
    told = HDBSCAN(12, 4, metric=metric, cluster_selection_method=method).fit(codes(bits))
    np.testing.assert_array_equal(found.labels, told.labels_)
    np.testing.assert_array_equal(found.points["probability"], told.probabilities_.astype(np.float32))
    np.testing.assert_array_equal(found.points["core"], told.core_distances_)
    assert found.count == told.labels_.max() + 1
    assert found.about["counts"]["distinct"] == ROWS - 2


def test_planted_clusters_are_found(store: Store, tmp_path: Path) -> None:
    _, whose = planted(ROWS)
    found = one(store, tmp_path, min_cluster_size=12, min_samples=4)
    assert found.count == 4
    assert adjusted_rand_score(whose, found.labels) > 0.95


def test_some_layers_alone(store: Store, bits: NDArray[np.bool_], tmp_path: Path) -> None:
    found = one(store, tmp_path, select="body.1", min_cluster_size=12, min_samples=4)
    told = HDBSCAN(12, 4).fit(codes(bits).field("body.1"))
    np.testing.assert_array_equal(found.labels, told.labels_)
    assert (found.about["store"]["bits"], found.about["store"]["fields"]) == (60, ["body.1"])


def test_activations_by_cosine(store: Store, bits: NDArray[np.bool_], tmp_path: Path) -> None:
    found = one(store, tmp_path, activations="body.0", metric="cosine", min_cluster_size=12, min_samples=4)
    x = bits[:, :100].astype(np.float64) - 0.5
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    told = HDBSCAN(12, 4, metric="cosine").fit(x.astype(np.float32))
    np.testing.assert_array_equal(found.labels, told.labels_)
    rows = found.rows(0)
    apart = np.linalg.norm(unit[rows] - unit[found.members["medoid"][0]], axis=1)
    np.testing.assert_allclose(found.members["distance"][rows], apart, atol=1e-6)


def test_activations_by_euclid(store: Store, bits: NDArray[np.bool_], tmp_path: Path) -> None:
    found = one(store, tmp_path, activations="body.0", min_cluster_size=12, min_samples=4)
    told = HDBSCAN(12, 4, metric="euclidean").fit(bits[:, :100].astype(np.float32) - 0.5)
    np.testing.assert_array_equal(found.labels, told.labels_)
    assert found.about["parameters"]["metric"] == "euclidean"


def test_the_members_are_those_of_the_labels(store: Store, bits: NDArray[np.bool_], tmp_path: Path) -> None:
    found = one(store, tmp_path, min_cluster_size=12, min_samples=4)
    apart = hamming.pairwise(codes(bits).words, codes(bits).words).numpy()
    for k in range(found.count):
        rows = found.rows(k)
        assert set(rows.tolist()) == set(np.flatnonzero(found.labels == k).tolist())
        inner = apart[np.ix_(rows, rows)]
        medoid = int(found.members["medoid"][k])
        assert apart[medoid][rows].sum() == inner.sum(1).min()
        np.testing.assert_array_equal(apart[medoid][rows], np.sort(apart[medoid][rows]))
        np.testing.assert_array_equal(found.members["distance"][rows], apart[medoid][rows])
    assert set(found.rows(-1).tolist()) == set(np.flatnonzero(found.labels < 0).tolist())


def test_several_sizes_come_from_one_search(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[int] = []
    nearest = Packed.nearest

    def counted(self: Packed, k: int, *rest: Any) -> Any:
        searches.append(k)
        return nearest(self, k, *rest)

    monkeypatch.setattr(Packed, "nearest", counted)
    found = cluster(store, tmp_path / "all", min_cluster_size=[12, 30], min_samples=[6, 3])
    assert searches == [6]
    for each, (samples, size) in zip(found, [(3, 12), (3, 30), (6, 12), (6, 30)], strict=True):
        asked = each.about["parameters"]
        assert (asked["min_samples"], asked["min_cluster_size"]) == (samples, size)
        assert each.folder.name == f"size-{size}-samples-{samples}"
        alone = one(store, tmp_path / f"alone-{size}-{samples}", min_cluster_size=size, min_samples=samples)
        np.testing.assert_array_equal(each.labels, alone.labels)
        assert each.about["tree"]["weight"] == alone.about["tree"]["weight"]
    assert [row["clusters"] for row in sweep(tmp_path / "all")] == [f.count for f in found]


class Stop(Exception):
    """The run was interrupted."""


@pytest.mark.parametrize("stage", ["neighbours", "tree"])
def test_an_interrupted_run_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def interrupt(now: str, done: int, total: int) -> None:
        if now == stage:
            raise Stop

    how: dict[str, Any] = {"min_cluster_size": 12, "min_samples": 4}
    with pytest.raises(Stop):
        cluster(store, tmp_path / "stopped", progress=interrupt, **how)
    with pytest.raises(CorruptError, match="the same `polykern cluster` command"):
        Clusters.open(tmp_path / "stopped")
    whole = one(store, tmp_path / "whole", **how)
    if stage == "tree":
        monkeypatch.setattr(Packed, "nearest", lambda *_: pytest.fail("the lists were found before"))
    assert same(one(store, tmp_path / "stopped", **how), whole)
    assert sorted(p.name for p in (tmp_path / "stopped").iterdir()) == sorted(
        [ABOUT, *(f"{f}.safetensors" for f in FILES)]
    )


def test_a_stage_that_was_damaged_is_made_again(store: Store, tmp_path: Path) -> None:
    def interrupt(now: str, done: int, total: int) -> None:
        if now == "tree":
            raise Stop

    how: dict[str, Any] = {"min_cluster_size": 12, "min_samples": 4}
    with pytest.raises(Stop):
        cluster(store, tmp_path / "stopped", progress=interrupt, **how)
    lists = tmp_path / "stopped" / "work" / "lists.safetensors"
    data = bytearray(lists.read_bytes())
    data[-5] ^= 1
    lists.write_bytes(data)
    assert same(one(store, tmp_path / "stopped", **how), one(store, tmp_path / "whole", **how))


def test_a_finished_run_is_opened(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = one(store, tmp_path, min_cluster_size=12)
    monkeypatch.setattr(Packed, "nearest", lambda *_: pytest.fail("it was finished"))
    assert one(store, tmp_path, min_cluster_size=12).about == first.about


def test_another_run_is_refused_and_replaced_on_demand(store: Store, tmp_path: Path) -> None:
    first = one(store, tmp_path, min_cluster_size=12)
    with pytest.raises(MismatchError, match="min_cluster_size: \\[12\\] there, \\[13\\] here"):
        cluster(store, tmp_path, min_cluster_size=13)
    assert Clusters.open(tmp_path, verify=True).about == first.about
    assert one(store, tmp_path, min_cluster_size=13, overwrite=True).about["parameters"]["min_cluster_size"] == 13


def test_a_report_of_other_clusters_goes_with_them(store: Store, tmp_path: Path) -> None:
    one(store, tmp_path, min_cluster_size=12)
    write_report(tmp_path, store, tmp_path / "report")
    one(store, tmp_path, min_cluster_size=12)
    assert (tmp_path / "report" / "index.html").exists()
    one(store, tmp_path, min_cluster_size=13, overwrite=True)
    assert not (tmp_path / "report").exists()


def test_several_clusterings_go_when_others_take_their_place(store: Store, tmp_path: Path) -> None:
    cluster(store, tmp_path, min_cluster_size=[12, 20], min_samples=5)
    write_report(tmp_path / "size-20-samples-5", store, tmp_path / "size-20-samples-5" / "report")
    (tmp_path / "size-12-samples-5" / "mine.txt").write_text("mine")
    cluster(store, tmp_path, min_cluster_size=[12, 13], min_samples=4, overwrite=True)
    here = {p.name: {q.name for q in p.iterdir()} for p in tmp_path.iterdir() if p.is_dir()}
    assert set(here) == {"size-12-samples-4", "size-13-samples-4", "size-12-samples-5"}
    assert here["size-12-samples-5"] == {"mine.txt"}
    one(store, tmp_path, min_cluster_size=12, overwrite=True)
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"size-12-samples-5"}


def test_numbers_may_be_those_of_numpy(store: Store, tmp_path: Path) -> None:
    found = one(store, tmp_path, min_cluster_size=np.int64(12), min_samples=np.arange(4, 5))
    assert (found.about["config"]["min_cluster_size"], found.about["config"]["min_samples"]) == ([12], [4])


def test_a_folder_of_something_else_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(MismatchError, match="holds no clustering"):
        cluster(store, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_all_codes_identical(tmp_path: Path) -> None:
    store = written(tmp_path / "same.codes", np.zeros((50, 160), bool))
    found = one(store, tmp_path / "out", min_cluster_size=5)
    assert (found.count, found.about["counts"]["distinct"], found.about["tree"]["weight"]) == (0, 1, 0)
    single = one(store, tmp_path / "single", min_cluster_size=5, allow_single_cluster=True)
    assert (single.count, single.noise) == (1, 0)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"min_cluster_size": ROWS}, f"min_cluster_size {ROWS} of {ROWS} rows"),
        ({"min_cluster_size": 1}, "min_cluster_size must be at least 2"),
        ({"min_samples": 0}, "min_samples must be at least 1"),
        ({"min_samples": [3, ROWS]}, f"min_samples {ROWS} of {ROWS} rows"),
        ({"min_cluster_size": []}, "no min_cluster_size"),
        ({"metric": "haming"}, "did you mean 'hamming'?"),
        ({"method": "leafs"}, "did you mean 'leaf'?"),
        ({"tie_order": "random"}, "no tie order"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"max_cluster_size": -1}, "max_cluster_size must be 0 or more"),
        ({"select": "body.7"}, "no nonlinearity is called"),
        ({"metric": "euclidean"}, "of activations, not of codes"),
        ({"activations": "body.1"}, "keeps no activations of 'body.1'"),
        ({"activations": "body.0", "metric": "hamming"}, "of codes, not of activations"),
    ],
)
def test_what_does_not_fit_is_named(store: Store, tmp_path: Path, how: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        cluster(store, tmp_path / "out", **how)
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_store_that_is_not_complete_is_refused(tmp_path: Path) -> None:
    bits, _ = planted(50)
    store = written(tmp_path / "half.codes", bits, whole=False)
    with pytest.raises(UsageError, match="is not complete"):
        cluster(store, tmp_path / "out")


def test_the_plan_grows_with_what_is_asked(store: Store) -> None:
    few, many = (plan(prepare(store, min_samples=k), timed=False) for k in (2, 200))
    assert many.lists > few.lists
    assert few.rows == ROWS
    assert few.seconds == 0
    assert plan(prepare(store)).seconds > 0
    with pytest.raises(ResourceError, match="memory budget"):
        few.left(1 << 20)


def test_the_order_of_rows_does_not_matter(bits: NDArray[np.bool_], store: Store, tmp_path: Path) -> None:
    straight = one(store, tmp_path / "straight", min_cluster_size=12, min_samples=4)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(ROWS)
        mixed = one(
            written(tmp_path / f"{seed}.codes", bits[order]),
            tmp_path / str(seed),
            min_cluster_size=12,
            min_samples=4,
        )
        assert adjusted_rand_score(straight.labels[order], mixed.labels) == 1.0
        np.testing.assert_array_equal(mixed.points["probability"], straight.points["probability"][order])


def test_the_kernels_do_not_matter(store: Store, tmp_path: Path) -> None:
    made = [one(store, tmp_path / b, min_cluster_size=12, backend=b) for b in ("cpu", "reference")]
    assert same(*made)


@pytest.mark.parametrize(("of", "metric"), [(None, "hamming"), ("body.0", "euclidean")])
def test_cuml_is_asked_for_by_name_only(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str | None, metric: str
) -> None:
    how: dict[str, Any] = {"activations": of, "metric": metric, "min_cluster_size": 12}
    exact = prepare(store, **how)
    named = prepare(store, **how, backend="cuml")
    assert exact.config([12], [12]) != named.config([12], [12])
    monkeypatch.setitem(sys.modules, "cuml", None)
    monkeypatch.setitem(sys.modules, "cuml.cluster", None)
    with pytest.raises(MissingExtra, match=r"pip install 'polykern\[cuda13\]'"):
        cluster(store, tmp_path, **how, backend="cuml")

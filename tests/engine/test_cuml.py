"""The door to cuML: the calls fit what cuML says of itself, roots are squared back, refusals name the fix."""

import inspect
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from polykern.clustering import _cuml
from polykern.clustering.dendrogram import condense, dendrogram
from polykern.clustering.selection import select
from polykern.errors import MismatchError, MissingExtra, ResourceError, UsageError
from polykern_kernels import hamming, pack

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "cuml_hdbscan.json").read_text())


class Fake:
    """cuML's HDBSCAN as the table describes it, at the few rows of a test."""

    made: ClassVar[list["Fake"]] = []
    fails: Exception | None = None

    def __init__(self, **given: Any) -> None:
        unknown = given.keys() - GOLDEN["parameters"].keys()
        if unknown:
            raise TypeError(f"unexpected keyword arguments {sorted(unknown)}")
        self.given = {**GOLDEN["parameters"], **given}
        assert self.given["metric"] in GOLDEN["metrics"]
        assert self.given["build_algo"] in GOLDEN["build_algo"]
        Fake.made.append(self)

    def fit(self, x: NDArray[np.float32]) -> "Fake":
        if self.fails is not None:
            raise self.fails
        assert x.dtype == np.float32
        assert x.flags.c_contiguous
        d = np.sqrt(np.square(x[:, None] - x[None]).sum(2))
        cores = np.sort(d, 1)[:, self.given["min_samples"]]
        assert self.given["gen_min_span_tree"] is True
        self._min_spanning_tree = prim(np.maximum(np.maximum(d, cores), cores[:, None]))
        self._state = SimpleNamespace(to_dict=lambda: {"core_dists": SimpleNamespace(get=lambda: cores)})
        self.labels_ = np.zeros(len(x), np.int64)
        self.probabilities_ = np.full(len(x), 0.5, np.float32)
        return self


def prim(weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64 (n - 1, 3): source, target, weight, in no order of weight."""
    best, parent, inside = weights[0].copy(), np.zeros(len(weights), int), np.zeros(len(weights), bool)
    inside[0], edges = True, []
    for _ in range(len(weights) - 1):
        j = int(np.where(inside, np.inf, best).argmin())
        edges.append((parent[j], j, best[j]))
        inside[j] = True
        nearer = weights[j] < best
        parent[nearer], best[nearer] = j, weights[j][nearer]
    return np.array(edges, np.float64)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    """cuML, as far as the door goes."""
    module = ModuleType("cuml.cluster")
    module.HDBSCAN = Fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuml", ModuleType("cuml"))
    monkeypatch.setitem(sys.modules, "cuml.cluster", module)
    monkeypatch.setattr(Fake, "made", [])
    monkeypatch.setattr(Fake, "fails", None)
    return Fake


@pytest.fixture
def words(rng: torch.Generator) -> torch.Tensor:
    """Three planted clusters of codes of 75 bits and some duplicates."""
    centres = torch.randn((3, 75), generator=rng)
    z = centres[torch.arange(60) % 3] + 0.7 * torch.randn((60, 75), generator=rng)
    z[40:44] = z[4]
    return pack.signs(z)[0]


def test_the_arguments_are_cuml_s(fake: type[Fake], rng: torch.Generator) -> None:
    x = torch.randn((20, 4), generator=rng).double()
    fit = _cuml.fit_rows(
        x, 3, 2, cluster_selection_method="leaf", cluster_selection_epsilon=1, allow_single_cluster=True,
        max_cluster_size=9,
    )  # fmt: skip
    assert fake.made[0].given == {
        **GOLDEN["parameters"], "min_cluster_size": 3, "min_samples": 2, "cluster_selection_method": "leaf",
        "cluster_selection_epsilon": 1.0, "allow_single_cluster": True, "max_cluster_size": 9,
        "gen_min_span_tree": True, "output_type": "numpy",
    }  # fmt: skip
    assert fit.labels is not None
    assert fit.probabilities is not None
    assert [str(fit.labels.dtype), str(fit.probabilities.dtype)] == ["int64", "float64"]
    assert torch.equal(fit.tree.weight, fit.tree.weight.sort().values)


def test_weights_of_codes_are_squared_back(fake: type[Fake], words: torch.Tensor) -> None:
    fit = _cuml.fit_codes(words, 75, 4)
    d = hamming.pairwise(words, words)
    cores = d.sort(1).values[:, 4]
    assert torch.equal(fit.cores, cores)
    source, target, weight = fit.tree.source, fit.tree.target, fit.tree.weight
    assert weight.dtype == torch.int32
    assert torch.equal(weight, torch.maximum(torch.maximum(cores[source], cores[target]), d[source, target]))
    reach = torch.maximum(torch.maximum(d, cores), cores[:, None])
    assert int(weight.sum()) == int(prim(reach.float().numpy())[:, 2].sum())
    assert fit.labels is None
    assert fake.made[0].given["build_kwds"] is None


def test_clusters_of_codes_are_those_of_hamming(fake: type[Fake], words: torch.Tensor) -> None:
    """The tree goes through the same selection as any other; 0 bits stand for half a bit."""
    found = _cuml.reachability(words, "hamming", 3)
    merged = dendrogram(found.tree)
    chosen = select(condense(merged, 5, zero=found.zero))
    assert (found.zero, found.distinct) == (0.5, 56)
    truth = np.arange(60) % 3
    truth[40:44] = 1
    for c in range(3):
        labels = chosen.labels[(truth == c) & (chosen.labels >= 0)]
        assert len(set(labels.tolist())) == 1
    assert len(chosen.persistence) == 3


def test_reachability_of_rows(fake: type[Fake], rng: torch.Generator) -> None:
    found = _cuml.reachability(torch.randn((9, 3), generator=rng), "euclidean", 2)
    assert (found.zero, found.distinct, found.tree.n, len(found.cores)) == (0.0, 9, 9, 9)
    with pytest.raises(UsageError, match="cuML has no metric 'jaccard'"):
        _cuml.reachability(torch.zeros((3, 1), dtype=torch.int32), "jaccard", 1)


def test_roots_of_the_largest_distances_square_back() -> None:
    bits = torch.arange(_cuml.MOST_BITS - 1000, _cuml.MOST_BITS + 1)
    roots = torch.from_numpy(np.sqrt(bits.numpy()).astype(np.float32)).double()
    assert torch.equal(_cuml._squared(roots), bits.to(torch.int32))


@pytest.mark.parametrize("broken", ["weight", "shape", "none", "attribute", "cores"])
def test_another_cuml_is_noticed(
    fake: type[Fake], words: torch.Tensor, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fake.fit

    def fit(self: Fake, x: NDArray[np.float32]) -> Fake:
        real(self, x)
        if broken == "weight":
            self._min_spanning_tree[0, 2] = np.sqrt(2.5)
        elif broken == "shape":
            self._min_spanning_tree = self._min_spanning_tree[1:]
        elif broken == "none":
            self._min_spanning_tree = None  # type: ignore[assignment]
        elif broken == "attribute":
            del self._min_spanning_tree
        else:
            self._state = SimpleNamespace(to_dict=dict)
        return self

    monkeypatch.setattr(fake, "fit", fit)
    with pytest.raises(MismatchError, match="this is not the cuML that is known here"):
        _cuml.fit_codes(words, 75, 4)


def test_an_option_that_is_gone_is_noticed(fake: type[Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    left = {k: v for k, v in GOLDEN["parameters"].items() if k != "alpha"}
    monkeypatch.setitem(GOLDEN, "parameters", left)
    with pytest.raises(MismatchError, match="alpha"):
        _cuml.fit_rows(torch.zeros((5, 2)), 2, 1)


def test_refusals(fake: type[Fake], words: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"cuML takes min_samples 1 ... 59 here, got 60"):
        _cuml.fit_codes(words, 75, 60)
    with pytest.raises(UsageError, match=r"min_samples 1 ... 1023 here, got 1024"):
        _cuml.fit_rows(torch.zeros((2000, 2)), 2, 1024)
    with pytest.raises(UsageError, match=r"min_cluster_size must be 2 ... 60, got 61"):
        _cuml.fit_rows(torch.zeros((60, 2)), 61, 5)
    with pytest.raises(UsageError, match="4194305 bits are too many for cuML"):
        _cuml.fit_codes(words, (1 << 22) + 1, 5)
    with pytest.raises(UsageError, match="rows must be float"):
        _cuml.fit_rows(words, 2, 5)
    monkeypatch.setattr(fake, "fails", MemoryError("std::bad_alloc"))
    with pytest.raises(ResourceError, match="cuML has not the memory for 60 rows of 75 float32"):
        _cuml.fit_codes(words, 75, 5)
    assert GOLDEN["min_samples"] == [1, _cuml.MOST_SAMPLES]


def test_without_cuml_the_pip_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuml", None)
    monkeypatch.setitem(sys.modules, "cuml.cluster", None)
    with pytest.raises(MissingExtra, match=r"pip install 'polykern\[cuda13\]'"):
        _cuml.fit_rows(torch.zeros((5, 2)), 2, 1)


def test_the_installed_cuml_is_the_one_in_the_table() -> None:
    try:
        installed = version(GOLDEN["package"])
    except PackageNotFoundError:
        pytest.skip("cuML is not installed")
    from cuml.cluster import HDBSCAN

    assert installed.split(".")[:2] == GOLDEN["version"].split(".")[:2]
    parameters = inspect.signature(HDBSCAN.__init__).parameters
    assert {k: p.default for k, p in parameters.items() if k != "self"} == GOLDEN["parameters"]


@pytest.mark.gpu
def test_cuml_itself(words: torch.Tensor) -> None:
    """Its tree of codes weighs no less than the exact one and hardly more."""
    pytest.importorskip("cuml")
    d = hamming.pairwise(words, words)
    cores = d.sort(1).values[:, 4]
    exact = prim(torch.maximum(torch.maximum(d, cores), cores[:, None]).float().numpy())[:, 2].sum()
    fit = _cuml.fit_codes(words.cuda(), 75, 4)
    assert torch.equal(fit.cores, cores)
    assert exact <= int(fit.tree.weight.sum()) <= 1.01 * exact

"""pk.HDBSCAN: scikit-learn's contract, what X may be, several answers from one fit, and what is refused."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from polykern.clustering.estimator import HDBSCAN
from polykern.codes import Codes
from polykern.errors import UsageError
from polykern.layout import Field, Layout
from polykern_kernels import BackendError
from tests.trees import planted_codes, spread_points

BITS = 90  # no multiple of a word

# --- scikit-learn ----------------------------------------------------------------------------------


# checks that fit real numbers; between bits they are refused, with an error that says so
REAL_NUMBERS = (
    "clustering", "dict_unchanged", "dont_overwrite_parameters", "dtype_object", "estimators_dtypes",
    "estimators_fit_returns_self", "estimators_nan_inf", "estimators_overwrite_params", "estimators_pickle",
    "f_contiguous_array_estimator", "fit2d_1feature", "fit2d_predict1d", "fit_check_is_fitted", "fit_idempotent",
    "fit_score_takes_y", "methods_sample_order_invariance", "methods_subset_invariance", "n_features_in",
    "n_features_in_after_fitting", "pipeline_consistency", "positive_only_tag_during_fit", "readonly_memmap_input",
)  # fmt: skip


def expected_failures(estimator: HDBSCAN) -> dict[str, str]:
    """Check -> why it fails; with euclidean distances none does."""
    if estimator.metric in ("hamming", "jaccard"):
        return {f"check_{name}": "real numbers, where distances are between bits" for name in REAL_NUMBERS}
    if estimator.metric == "cosine":
        return {"check_estimators_dtypes": "a row of zeros, which has no direction"}
    return {}


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [
        HDBSCAN(),
        HDBSCAN(metric="jaccard"),
        HDBSCAN(metric="cosine"),
        HDBSCAN(metric="euclidean"),
        HDBSCAN(3, metric="euclidean", tie_order="hdbscan"),
    ],
    expected_failed_checks=expected_failures,
)
def test_the_contract_of_scikit_learn(estimator: HDBSCAN, check: Any) -> None:
    """Every check that scikit-learn has, but for those that `expected_failures` gives a reason for."""
    check(estimator)


def test_a_step_of_a_pipeline() -> None:
    points = spread_points(200, np.random.default_rng(0))
    steps = make_pipeline(StandardScaler(), HDBSCAN(8, metric="euclidean"))
    labels = steps.fit_predict(points)
    assert labels.max() >= 1
    assert np.array_equal(
        labels, HDBSCAN(8, metric="euclidean").fit(StandardScaler().fit_transform(points)).labels_
    )


def test_parameters_survive_a_clone() -> None:
    made = HDBSCAN(7, 3, metric="jaccard", cluster_selection_method="leaf", progress=print)
    again: Any = clone(made)
    assert again.get_params() == made.get_params()
    assert repr(clone(HDBSCAN(7))) == "HDBSCAN(min_cluster_size=7)"


def test_columns_with_names() -> None:
    pandas = pytest.importorskip("pandas")
    bits, _ = planted_codes(100, bits=40, groups=3)
    fitted: Any = HDBSCAN(5).fit(pandas.DataFrame(bits, columns=[f"unit {i}" for i in range(40)]))
    assert fitted.feature_names_in_[39] == "unit 39"
    assert np.array_equal(fitted.labels_, HDBSCAN(5).fit(bits).labels_)


# --- what X may be ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bits() -> np.ndarray:
    return planted_codes(260, bits=BITS, groups=5, flips=0.08)[0]


def layout(name: str = "relu") -> Layout:
    return Layout.of([Field(name, 0, "relu", (BITS,), (0.0,), 0)])


def packed(bits: np.ndarray, size: int) -> np.ndarray:
    """uint8 rows, as long as whole words of `size` bytes."""
    octets = np.packbits(bits, axis=1, bitorder="little")
    return np.pad(octets, ((0, 0), (0, -octets.shape[1] % size)))


FORMS: dict[str, Any] = {
    "0 and 1, float32": lambda b: b.astype(np.float32),
    "0 and 1, int64": lambda b: b.astype(np.int64),
    "0 and 1, uint8": lambda b: b.astype(np.uint8),
    "0 and 1, a list": lambda b: b.astype(int).tolist(),
    "bool, columns first": np.asfortranarray,
    "bool, a tensor": torch.from_numpy,
    "0 and 1, half precision": lambda b: torch.from_numpy(b).to(torch.bfloat16),
    "bytes": lambda b: packed(b, 1),
    "uint32": lambda b: packed(b, 4).view(np.uint32),
    "int32": lambda b: packed(b, 4).view(np.int32),
    "uint64": lambda b: packed(b, 8).view(np.uint64),
    "uint64, big-endian": lambda b: packed(b, 8).view(np.uint64).astype(">u8"),
    "int32, a tensor": lambda b: torch.from_numpy(packed(b, 4).view(np.int32)),
    "every second word": lambda b: np.repeat(packed(b, 4).view(np.int32), 2, axis=1)[:, ::2],
    "Codes": lambda b: Codes(torch.from_numpy(packed(b, 4).view(np.int32)), layout()),
    "several Codes": lambda b: [
        Codes(torch.from_numpy(packed(part, 4).view(np.int32)), layout()) for part in (b[:99], b[99:])
    ],
}


@pytest.mark.parametrize("metric", ["hamming", "jaccard"])
@pytest.mark.parametrize("form", FORMS)
def test_codes_are_taken_in_every_form(bits: np.ndarray, form: str, metric: str) -> None:
    plain = HDBSCAN(10, metric=metric).fit(bits)
    assert plain.labels_.max() == 4
    given = HDBSCAN(10, metric=metric).fit(FORMS[form](bits))
    assert np.array_equal(given.labels_, plain.labels_)
    assert np.array_equal(given.outlier_scores_, plain.outlier_scores_)
    assert np.array_equal(given.core_distances_, plain.core_distances_)


def test_features_are_columns_or_bits(bits: np.ndarray) -> None:
    assert HDBSCAN().fit(bits).n_features_in_ == BITS
    assert HDBSCAN().fit(FORMS["Codes"](bits)).n_features_in_ == BITS
    assert HDBSCAN().fit(FORMS["uint64"](bits)).n_features_in_ == 2


def test_distances_are_counts_of_bits(bits: np.ndarray) -> None:
    weight = HDBSCAN().fit(bits).minimum_spanning_tree_.weight
    assert np.array_equal(weight, weight.round())
    assert weight.max() > 1
    assert HDBSCAN(metric="jaccard").fit(bits).minimum_spanning_tree_.weight.max() < 1


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
def test_real_vectors(kind: type) -> None:
    points: np.ndarray = (spread_points(150, np.random.default_rng(1)) * 100).round().astype(kind)
    fitted = HDBSCAN(6, metric="euclidean").fit(points)
    assert np.array_equal(fitted.labels_, HDBSCAN(6, metric="euclidean").fit(torch.from_numpy(points)).labels_)
    wide = points.astype(np.float64)
    between = np.sqrt(((wide[:, None] - wide[None]) ** 2).sum(2))
    assert np.allclose(fitted.core_distances_, np.sort(between, 1)[:, 6], rtol=1e-12)


# --- one fit, many answers ----------------------------------------------------------------------------


def alike(a: HDBSCAN, b: HDBSCAN) -> bool:
    """Everything fitted is equal."""
    trees = [
        np.array_equal(getattr(a, name).to_numpy(), getattr(b, name).to_numpy())
        for name in ("condensed_tree_", "single_linkage_tree_")
    ]
    arrays = ("labels_", "probabilities_", "outlier_scores_", "cluster_persistence_", "core_distances_")
    same = [np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays]
    return all([*trees, *same, a.n_features_in_ == b.n_features_in_])


@pytest.mark.parametrize(
    "other",
    [
        {"min_cluster_size": 25},
        {"cluster_selection_method": "leaf"},
        {"min_cluster_size": 15, "max_cluster_size": 30, "cluster_selection_epsilon": 12.0},
        {"allow_single_cluster": True},
        {"tie_order": "hdbscan"},
    ],
)
def test_relabelled_is_fitted_again(bits: np.ndarray, other: dict[str, Any]) -> None:
    fitted = HDBSCAN(10).fit(bits)
    before = fitted.labels_.copy()
    again = fitted.relabelled(**other)
    assert alike(again, HDBSCAN(**{"min_cluster_size": 10, "min_samples": 10, **other}).fit(bits))
    assert again.get_params() == {**fitted.get_params(), "min_samples": 10, **other}
    assert np.array_equal(fitted.labels_, before)
    assert fitted.min_cluster_size == 10


def test_a_sweep_is_a_fit_each(bits: np.ndarray) -> None:
    """Duplicates among the rows too; one search of neighbours, which is the slow part."""
    rows = np.concatenate([bits, bits[:40], bits[:20]])
    stages: list[str] = []
    asked = HDBSCAN(10, progress=lambda stage, done, total: stages.append(stage) if done == total else None)
    found = asked.sweep(rows, [4, 12, 1])
    assert list(found) == [4, 12, 1]
    assert stages.count("neighbours") == 1
    assert not hasattr(asked, "labels_")
    assert len({tuple(f.labels_.tolist()) for f in found.values()}) > 1
    for k, fitted in found.items():
        assert fitted.get_params()["min_samples"] == k
        assert alike(fitted, HDBSCAN(10, k).fit(rows))


def test_fit_again_forgets() -> None:
    rows = [planted_codes(90, bits=64, groups=3, seed=seed)[0] for seed in (0, 1)]
    twice = HDBSCAN().fit(rows[0]).fit(rows[1][:, :50])
    assert alike(twice, HDBSCAN().fit(rows[1][:, :50]))


def test_backends_agree(bits: np.ndarray) -> None:
    for metric in ("hamming", "jaccard"):
        assert alike(*(HDBSCAN(8, metric=metric, backend=b).fit(bits[:80]) for b in ("cpu", "reference")))
    points = spread_points(60, np.random.default_rng(0))
    assert alike(*(HDBSCAN(metric="euclidean", backend=b).fit(points) for b in ("cpu", "reference")))


# --- one group, and what is refused -----------------------------------------------------------------------


def test_equal_rows_are_one_group() -> None:
    same = np.ones((30, 70), bool)
    with pytest.warns(UserWarning, match="all 30 rows are equal: one group, which is noise unless"):
        alone = HDBSCAN().fit(same)
    assert alone.labels_.tolist() == [-1] * 30
    asked = HDBSCAN(allow_single_cluster=True).fit(same)
    assert asked.labels_.tolist() == [0] * 30
    assert asked.probabilities_.tolist() == [1.0] * 30
    assert asked.cluster_persistence_.tolist() == [1.0]
    assert np.isfinite(asked.condensed_tree_.to_numpy()["lambda_val"]).all()


def refused(message: str, X: Any, **parameters: Any) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        HDBSCAN(**parameters).fit(X)
    assert isinstance(caught.value, ValueError)
    assert all(len(line) < 300 for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min_cluster_size": 1}, "min_cluster_size must be a whole number >= 2, got 1"),
        ({"min_cluster_size": 2.5}, "min_cluster_size must be a whole number >= 2, got 2.5"),
        ({"min_cluster_size": True}, "min_cluster_size must be a whole number >= 2, got True"),
        ({"min_cluster_size": 260}, "min_cluster_size 260 of 260 rows\ntake min_cluster_size below 260"),
        ({"min_samples": 0}, "min_samples must be a whole number >= 1, got 0"),
        ({"min_samples": 260}, "min_samples 260 of 260 rows"),
        ({"max_cluster_size": -1}, "max_cluster_size must be a whole number >= 0, got -1"),
        ({"cluster_selection_epsilon": -0.5}, "cluster_selection_epsilon must be a distance >= 0, got -0.5"),
        ({"cluster_selection_epsilon": float("nan")}, "cluster_selection_epsilon must be a distance >= 0"),
        ({"metric": "haming"}, "no metric 'haming'\ndid you mean 'hamming'"),
        ({"metric": "manhattan"}, "no metric 'manhattan'\n.*it is one of hamming, jaccard, euclidean, cosine"),
        ({"cluster_selection_method": "leave"}, "no cluster_selection_method 'leave'\ndid you mean 'leaf'"),
        ({"tie_order": "multi"}, "no tie_order 'multi'\ndid you mean 'multiway'"),
    ],
)
def test_parameters_that_do_not_fit(bits: np.ndarray, parameters: dict[str, Any], message: str) -> None:
    refused(message, bits, **parameters)


@pytest.mark.parametrize("metric", ["hamming", "euclidean"])
def test_rows_that_do_not_fit(bits: np.ndarray, metric: str) -> None:
    x = bits.astype(np.float64)
    refused("minimum of 2 is required", x[:0], metric=metric)
    refused(r"1 sample\(s\)", x[:1], metric=metric)
    refused("0 feature", x[:, :0], metric=metric)
    refused("Expected 2D array", x[0], metric=metric)
    for value, message in ((np.nan, "Input X contains NaN"), (np.inf, "Input X contains infinity")):
        x[3, 5] = value
        refused(message, x, metric=metric)


def test_a_tensor_elsewhere_that_does_not_fit() -> None:
    refused(r"X on meta must be int32 \(n, width\) for hamming", torch.zeros((), device="meta"))


def test_numbers_that_are_no_bits(bits: np.ndarray) -> None:
    for kind in (np.int64, np.float32, np.int16):
        refused("between bits, got .* other than 0 and 1\ntake bits", (bits * 3).astype(kind))
    refused("between bits, got <U", np.array([["on", "off"]] * 20))


def test_codes_that_do_not_fit(bits: np.ndarray) -> None:
    codes = FORMS["Codes"](bits)
    refused("codes of different layouts", [codes, Codes(codes.words, layout("gelu"))])
    refused("codes have no euclidean distance\ntake metric='hamming'", codes, metric="euclidean")
    refused("1 sample: a clustering needs at least 2 rows", codes[:1])
    refused("0 samples: a clustering needs", codes[:0])
    chosen = {"pool": torch.zeros((len(codes), 2), dtype=torch.uint8)}
    refused("codes with choices of max-pools", Codes(codes.words, codes.layout, chosen))


def test_a_sweep_and_a_relabelling_that_do_not_fit(bits: np.ndarray) -> None:
    with pytest.raises(UsageError, match="a sweep needs at least one min_samples"):
        HDBSCAN().sweep(bits, [])
    with pytest.raises(UsageError, match="min_samples must be a whole number >= 1, got 0"):
        HDBSCAN().sweep(bits, [5, 0])
    with pytest.raises(UsageError, match="min_samples 300 of 260 rows"):
        HDBSCAN().sweep(bits, [300, 5])
    fitted = HDBSCAN().fit(bits)
    with pytest.raises(UsageError, match="min_cluster_size 260 of 260 rows"):
        fitted.relabelled(min_cluster_size=260)
    with pytest.raises(UsageError, match="no tie_order 'none'"):
        fitted.relabelled(tie_order="none")
    with pytest.raises(ValueError, match="is not fitted yet"):
        HDBSCAN().relabelled(min_cluster_size=7)


def test_a_backend_that_is_named_is_the_one_that_runs(bits: np.ndarray) -> None:
    with pytest.raises(BackendError, match="'abacus'"):
        HDBSCAN(backend="abacus").fit(bits)
    with pytest.raises(BackendError, match="'abacus'"):
        HDBSCAN(metric="euclidean", backend="abacus").fit(spread_points(30, np.random.default_rng(0)))


def test_reading_a_tree_needs_no_scikit_learn() -> None:
    """What the command line uses of clustering."""
    code = (
        "import polykern.clustering.selection, polykern.clustering.exports, sys; sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


def test_trees_say_in_a_line_what_they_are() -> None:
    fitted = HDBSCAN(8).fit(planted_codes(200)[0])
    for tree in (fitted.condensed_tree_, fitted.single_linkage_tree_, fitted.minimum_spanning_tree_):
        assert repr(tree).startswith(f"{type(tree).__name__}(200 points, ")
        assert len(repr(tree)) < 80

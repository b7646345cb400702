"""`pk.directions`: factorise a layer's activations, and hold the directions against the clusters of its codes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError
from polykern.factors import dictionaries as books
from polykern.factors.concepts import Steered, steered
from polykern.factors.factorisation import nmf, pca
from polykern.factors.nearest import boundaries_crossed, concentration, cosines
from polykern.factors.result import Directions, Family
from polykern.factors.rows import Rows, rows_of
from polykern.findings import provenance
from polykern.models import Subject
from polykern.progress import Progress, silent
from polykern.scores import projections
from polykern_kernels import pack

FAMILIES = ("nmf", "pca", "neurons", "random")
COMPONENTS, SHARE_OF_UNITS = 64, 4  # as many components, but no more than a quarter of the units
_Basis = tuple[NDArray[np.float64], NDArray[np.float64], dict[str, Any]]  # directions, mean, what is told
STRONG = 0.1  # share of rows on which a direction's values are cut into intervals
REPEATS = 20  # of the baselines of one direction's intervals
HELD_OUT = 5  # every fifth example is held out from dictionaries
MOST_CENTRES = 1024
TAUS = (0.3, 0.5, 0.7)


def directions(
    subject: Subject,
    layer: str | None = None,
    *,
    components: int | None = None,
    families: Sequence[str] = FAMILIES,
    min_cluster_size: int = 10,
    selection: str = "eom",
    top: float = 0.01,
    rows: int = 20_000,
    dictionaries: bool = True,
    taus: Sequence[float] = TAUS,
    permutations: int = 1000,
    seed: int = 0,
    device: str = "cpu",
    backend: str | None = None,
    progress: Progress | None = None,
) -> Directions:
    """Directions of a layer's activations beside the clusters of its codes.

    subject           whose examples are looked at, each place of a feature map and each token by itself
    layer             one nonlinearity (`polykern layers`); None: the last one that has places, else the last
    components        of NMF and PCA; None: 64, or a quarter of the units where that is less
    families          "nmf"; "pca", each axis in both senses; "neurons", the units themselves, and "random", normal
                      vectors with their negative entries turned round: the two to compare with
    min_cluster_size  of HDBSCAN of the codes, by Hamming distance
    selection         its clusters: "eom" (excess of mass) | "leaf"
    top               share of the rows that count as nearest to a direction
    rows              at most; of more, as many are drawn
    dictionaries      also learn dictionaries of the codes
    taus              also steer the examples towards each class by masks of these frequencies; none: do not
    permutations      of the labels
    seed              of everything random
    device            where NMF runs; a CUDA device takes `backend` "torch"
    backend           of NMF: "sklearn" | "torch"
    progress          called with (stage, done, total)

    Factorised is ReLU(pre-activation); PCA takes it about its mean. Errors: UsageError for a layer that there is
    not, more components than rows or units, codes without clusters, an unknown family, or numbers out of range.
    """
    for name in families:
        if name not in FAMILIES:
            raise UsageError(f"no family of directions {name!r}", fix=f"choose some of {', '.join(FAMILIES)}")
    if not families:
        raise UsageError("no family of directions", fix=f"choose some of {', '.join(FAMILIES)}")
    if not 0 < top <= 1 or min(rows, permutations) < 1:
        raise UsageError(
            f"the nearest {top:g} of {rows} rows beside {permutations} permutations",
            fix="take a share in 0 .. 1, and one or more of each",
        )
    tell = progress or silent
    found = rows_of(subject, layer, most=rows, seed=seed, progress=progress)
    units = found.z.shape[1]
    number = min(COMPONENTS, max(1, units // SHARE_OF_UNITS)) if components is None else components
    bases: dict[str, _Basis] = {}
    for name in families:
        tell("directions", len(bases), len(families))
        bases[name] = _basis(name, found.values, number, seed=seed, device=device, backend=backend)
    labels = _clusters(found, min_cluster_size, selection)
    made: list[Family] = []
    for name, (vectors, mean, told) in bases.items():
        tell("families", len(made), len(families))
        made.append(_family(name, vectors, mean, told, found, labels, top, permutations, seed))
    learned = _dictionaries(found, number, seed, tell) if dictionaries else ()
    turned = [steered(subject, tau=tau, seed=seed, progress=progress) for tau in taus]
    about = provenance(
        subject, found.tail, seed=seed, layer=found.tail.layout.fields[0].name, components=number,
        families=list(families), min_cluster_size=min_cluster_size, selection=selection, top=top, rows=rows,
        permutations=permutations, taus=list(taus), input="ReLU(pre-activation)",
    )  # fmt: skip
    return Directions(
        about, units, found.item, found.place, labels, found.classes, tuple(made), learned,
        tuple(t for t in turned if isinstance(t, Steered)),
    )  # fmt: skip


def _basis(
    name: str, values: NDArray[np.float64], number: int, *, seed: int, device: str, backend: str | None
) -> _Basis:
    """Directions (k, units), what is taken from the rows before cosines, and what is to be told of them."""
    units, total = values.shape[1], float((values**2).sum())
    if name == "nmf":
        found = nmf(values, number, seed=seed, device=device, backend=backend)
        return found.components, found.mean, {"backend": found.backend, "unexplained": found.error / total}
    if name == "pca":
        found = pca(values, number)
        variance = float(((values - found.mean) ** 2).sum())
        return found.components, found.mean, {"backend": found.backend, "unexplained": found.error / variance}
    if name == "neurons":
        return np.eye(units), np.zeros(units), {}
    drawn = np.abs(np.random.default_rng(seed).standard_normal((number, units)))
    return drawn, np.zeros(units), {}


def _clusters(found: Rows, min_cluster_size: int, selection: str) -> NDArray[np.int64]:
    from polykern.clustering.estimator import HDBSCAN  # a class of scikit-learn's

    labels = HDBSCAN(min_cluster_size, cluster_selection_method=selection).fit_predict(found.codes)
    if not (labels >= 0).any():
        raise UsageError(
            f"HDBSCAN finds no clusters among {len(labels)} codes of {found.codes.layout.bits} bits",
            why=f"no {min_cluster_size} of them lie closer together than the rest",
            fix="a smaller --min-cluster-size, another layer, or more examples",
        )
    return labels


def _family(
    name: str, vectors: NDArray[np.float64], mean: NDArray[np.float64], told: dict[str, Any], found: Rows,
    labels: NDArray[np.int64], top: float, permutations: int, seed: int,
) -> Family:  # fmt: skip
    values = found.values - mean
    near = cosines(values, vectors)
    how: dict[str, Any] = {"share": top, "permutations": permutations, "seed": seed}
    by_class = None if found.classes is None else concentration(near, found.classes, **how)
    lines = []
    for k, vector in enumerate(vectors):
        along = values @ vector / max(float(np.linalg.norm(vector)), 1e-300)
        strong = projections.strongest(along, STRONG)
        strong = strong[labels[strong] >= 0]
        if len(strong) > 1:
            classes = None if found.classes is None else found.classes[strong]
            lines.append(
                (k, projections.compare(along[strong], labels[strong], classes, repeats=REPEATS, seed=seed))
            )
    return Family(
        name, vectors, near, concentration(near, labels, **how), concentration(near, labels, noise=True, **how),
        by_class, boundaries_crossed(found.z, vectors, found.codes.layout.fields[0].thresholds), tuple(lines), told,
    )  # fmt: skip


def _dictionaries(found: Rows, number: int, seed: int, tell: Progress) -> tuple[tuple[str, books.Score], ...]:
    """Every method with as many features, and k-means with an encoding as long as that of the unions."""
    bits = pack.unpack(found.codes.words, found.codes.layout.bits).numpy()
    held = found.item % HELD_OUT == HELD_OUT - 1
    if not held.any() or held.all():
        return ()
    classes = None if found.classes is None else found.classes[held]
    scores: list[tuple[str, books.Score]] = []
    for method in books.METHODS:
        tell("dictionaries", len(scores), len(books.METHODS) + 1)
        book = books.dictionary(bits[~held], number, method=method, seed=seed)
        scores.append((method, books.score(book, bits[~held], bits[held], classes)))
    length = scores[0][1].length or 0.0
    centres = int(min(2 ** np.ceil(length), MOST_CENTRES, (~held).sum()))
    book = books.dictionary(bits[~held], centres, method="kmeans", seed=seed)
    scores.append(("kmeans, equal length", books.score(book, bits[~held], bits[held], classes)))
    return tuple(scores)

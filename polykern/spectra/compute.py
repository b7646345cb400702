"""`pk.spectrum`: from a store of activations and codes, or a network and its examples, to eigenspectra."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.codes import Codes, packed
from polykern.errors import ResourceError, UsageError
from polykern.findings import RECORDED
from polykern.layout import Field, Layout
from polykern.models import Subject, stacked
from polykern.spectra import channels, powerlaw
from polykern.spectra.moments import GROUPS, ActivationMoments, CodeMoments, Moments
from polykern.spectra.result import ACTIVATIONS, CODES, Spectra, Spectrum
from polykern.statistics import jackknife
from polykern.store import Store
from polykern.store.rows import Rows
from polykern.tail import Tail
from polykern.tracing import trace
from polykern.versions import recorded

Progress = Callable[[str, int, int], None]
Documents = NDArray[Any]
Chunk = tuple[Tensor | Codes, Documents]
Stream = tuple[str, str, Iterator[Chunk]]  # name of the site, kind, its rows
BATCH = 64  # examples a pass
MEMORY = 8 << 30  # bytes of the moments of one site


def spectrum(
    source: Store | Subject,
    sites: Sequence[str] | None = None,
    *,
    codes: bool = True,
    first: int | None = None,
    last: int | None = None,
    centred: bool = True,
    dimension: float | None = None,
    groups: int = GROUPS,
    level: float = 0.95,
    progress: Progress | None = None,
) -> Spectra:
    """The eigenspectra of the activations, and of the codes, of some sites, with their power laws.

    source     a store that keeps activations (`capture(..., activations=...)`), or a subject, whose examples are
               run: the pre-activations of its nonlinearities; the channels of a feature map at each place are a row
    sites      names of kept activations, or of nonlinearities; None: all whose rank leaves a window to fit
    codes      also the bits of each of these nonlinearities, by popcount
    first      rank where the window begins; None: 11
    last       rank where it ends; None: 500, or half the rank where that is less
    centred    False: second moments about zero, which the largest eigenvalue then mostly is
    dimension  of the inputs where it is known, for the bound 1 + 2/d
    groups     documents (texts, pictures) are dealt into; memory is groups * width^2 * 8 bytes
    level      of the intervals
    progress   called with (stage, done, total)

    Moments are float64 sums; those of codes are exact. Rows of one document are not independent: intervals are of
    the jackknife over groups (Efron and Tibshirani 1993). With fewer than ten rows a column the exponent is biased,
    and the result says so. Stringer et al. 2019; Marshall and Kirchner 2024, "Understanding polysemanticity in
    neural networks through coding theory".

    Errors: UsageError for a site that there is not, constant activations, or a rank below the window; CorruptError
    for NaN.
    """
    if groups < 2:
        raise UsageError(f"{groups} group of documents gives no interval", fix="take two or more, better sixteen")
    tell = progress or (lambda stage, done, total: None)
    streams = _of_store(source, sites, codes) if isinstance(source, Store) else of_subject(source, sites, codes)
    found: dict[str, Spectrum] = {}
    left_out: dict[str, str] = {}
    for k, (name, kind, chunks) in enumerate(streams):
        tell("sites", k, len(streams))
        label = f"{name} ({CODES})" if kind == CODES else name
        moments, documents = _gathered(label, chunks, groups)
        try:
            found[label] = measured(label, moments, documents, first=first, last=last, centred=centred, level=level)
        except UsageError as reason:
            if sites is not None:
                raise
            left_out[label] = reason.what
    tell("sites", len(streams), len(streams))
    settings = {
        "sites": list(found), "first": first, "last": last, "centred": centred, "groups": groups, "level": level,
        "dimension": dimension,
    }  # fmt: skip
    if not found:
        raise UsageError("no site has a spectrum to fit", why="; ".join(f"{k}: {v}" for k, v in left_out.items()))
    about = {"model": _model(source), "settings": settings, "left_out": left_out}
    about["versions"] = recorded(*RECORDED)
    return Spectra(about, found, dimension)


def eigenvalues(covariance: Tensor) -> NDArray[np.float64]:
    """float64 (m): of a symmetric matrix, the largest first; what rounding made negative is 0."""
    found: NDArray[np.float64] = torch.linalg.eigvalsh(covariance).flip(0).clamp_min(0).cpu().numpy()
    return found


def measured(
    name: str,
    moments: Moments,
    documents: int,
    *,
    first: int | None = None,
    last: int | None = None,
    centred: bool = True,
    level: float = 0.95,
) -> Spectrum:
    """The spectrum of rows whose moments are known.

    name       of the site, for messages
    moments    `ActivationMoments` or `CodeMoments`, with rows in at least two groups
    documents  how many the rows are of
    others     as of `spectrum`, and its errors
    """
    values = eigenvalues(moments.read(centred=centred))
    if not values[0] > 0:
        raise UsageError(f"{name} is constant over all {int(moments.rows.sum()):,} rows: it has no spectrum")
    noise = moments.noise()
    fit = powerlaw.fit(values, first, last, noise=noise)
    rest = _left_out(name, moments, centred)
    alpha = jackknife(fit.alpha, [powerlaw.fit(r, fit.first, fit.last).alpha for r in rest], level=level)
    codes = isinstance(moments, CodeMoments)
    return Spectrum(
        name, CODES if codes else ACTIVATIONS, int(moments.rows.sum()), documents, values,
        held_out(moments, centred=centred), fit, alpha, powerlaw.windows(values, noise=noise),
        powerlaw.positive(values, noise),
        channels.binary(len(values)) if codes else channels.gaussian(values, rest, level=level),
        channels.entropy(moments, level=level) if isinstance(moments, CodeMoments) else None,
    )  # fmt: skip


def _left_out(name: str, moments: Moments, centred: bool) -> list[NDArray[np.float64]]:
    """The spectrum of all groups of documents but one, for each that has rows."""
    filled = np.flatnonzero(moments.rows)
    if len(filled) < 2:
        raise UsageError(
            f"{name}: all rows are of one document, which has no interval", fix="take more documents, or pictures"
        )
    found = []
    for group in filled.tolist():
        weights = np.ones(len(moments.rows))
        weights[group] = 0
        found.append(eigenvalues(moments.read(weights, centred=centred)))
    return found


def held_out(moments: Moments, *, centred: bool = True) -> NDArray[np.float64]:
    """float64 (m): variance of the rows of odd groups along the eigenvectors of those of even groups.

    nan throughout where one of the halves has no rows.
    """
    odd = (np.arange(len(moments.rows)) % 2).astype(np.float64)
    if not (odd @ moments.rows and (1 - odd) @ moments.rows):
        return np.full(moments.width, np.nan)
    axes = torch.linalg.eigh(moments.read(1 - odd, centred=centred)).eigenvectors.flip(1)
    other = moments.read(odd, centred=centred)
    found: NDArray[np.float64] = ((other @ axes) * axes).sum(0).cpu().numpy()
    return found


def _gathered(name: str, chunks: Iterator[Chunk], groups: int) -> tuple[Moments, int]:
    """The moments of all chunks, and how many documents they are of."""
    moments: ActivationMoments | CodeMoments | None = None
    documents: set[int] = set()
    for rows, number in chunks:
        if moments is None:
            width = rows.layout.bits if isinstance(rows, Codes) else rows.shape[1]
            _require_room(name, width, groups)
            moments = CodeMoments(width, groups) if isinstance(rows, Codes) else ActivationMoments(width, groups)
        moments.add(rows.words if isinstance(rows, Codes) else rows, number)
        documents.update(np.unique(number).tolist())
    if moments is None:
        raise UsageError(f"{name} has no rows to take a spectrum of")
    return moments, len(documents)


def _of_store(store: Store, sites: Sequence[str] | None, codes: bool) -> list[Stream]:
    kept = store.manifest.activations
    fields = {f.name for f in store.layout.fields}
    wanted = list(kept) if sites is None else list(sites)
    for name in wanted:
        if name not in kept and name not in fields:
            raise UsageError(
                f"{store.path} knows no site {name!r}",
                why=f"it keeps the activations of {', '.join(kept) or 'none'}, and codes of {', '.join(fields)}",
                fix="name one of them, or capture again with --activations",
            )
    if not wanted:  # no activations are kept: codes alone
        wanted = sorted(fields, key=[f.name for f in store.layout.fields].index)

    def values(name: str) -> Iterator[Chunk]:
        for shard in store.shards([store.layout.fields[0].name], activations=[name]):
            yield _by_place(shard.activations[name], _documents(shard))

    def bits(name: str) -> Iterator[Chunk]:
        for shard in store.shards([name]):
            yield shard.codes, _documents(shard)

    streams: list[Stream] = [(name, ACTIVATIONS, values(name)) for name in wanted if name in kept]
    return streams + [(name, CODES, bits(name)) for name in wanted if codes and name in fields]


def _documents(rows: Rows) -> Documents:
    return rows.columns.get("doc", rows.index)


def of_subject(subject: Subject, sites: Sequence[str] | None, codes: bool) -> list[Stream]:
    """Pre-activations of a subject's examples, and their codes, site by site; of feature maps place by place."""
    fields = Tail(subject.model, subject.sample, select="*" if sites is None else list(sites)).layout.fields

    def values(field: Field) -> Iterator[Chunk]:
        for first in range(0, len(subject.examples), BATCH):
            some = range(first, min(first + BATCH, len(subject.examples)))
            with trace(subject.model, select=[field.name], values=True) as t:
                t.run(stacked(subject.examples, some))
            yield _by_place(t.values[field.name], np.asarray(some))

    def bits(field: Field) -> Iterator[Chunk]:
        for rows, documents in values(field):
            assert isinstance(rows, Tensor)
            of = Field(field.module, field.call, field.kind, (rows.shape[1],), field.thresholds, 0)
            yield Codes(packed(of, rows), Layout.of([of])), documents

    streams: list[Stream] = [(f.name, ACTIVATIONS, values(f)) for f in fields]
    return streams + [(f.name, CODES, bits(f)) for f in fields if codes]


def _by_place(values: Tensor, documents: Documents) -> Chunk:
    """Rows (n, width): of feature maps (n, channels, ...) the channels at each place."""
    if values.ndim < 3:
        return values.reshape(len(values), -1), documents
    flat = values.flatten(2).transpose(1, 2)  # (n, places, channels)
    return flat.reshape(-1, flat.shape[2]), np.repeat(documents, flat.shape[1])


def _require_room(name: str, width: int, groups: int) -> None:
    needed = groups * width**2 * 8
    if needed > MEMORY:
        raise ResourceError(
            f"the moments of {name} would take {needed / 2**30:.1f} GiB",
            why=f"{width:,} columns in {groups} groups",
            fix="take fewer groups, or a site with fewer units",
        )


def _model(source: Store | Subject) -> dict[str, Any]:
    if isinstance(source, Subject):
        return {"name": source.name, "weights": source.weights, "note": source.note}
    about = source.about.get("model", {})
    name = about.get("name") if isinstance(about, dict) else about
    return {"name": name or source.path, "store": source.fingerprint}

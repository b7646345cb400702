"""`pk.spectrum`: from a store of activations and codes, or a network and its examples, to eigenspectra."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.codes import Codes, packed
from polykern.errors import ResourceError, UsageError
from polykern.findings import RECORDED
from polykern.layout import Field, Layout
from polykern.models import Subject, stacked
from polykern.progress import Progress, silent
from polykern.ranks import Ranks, ranks
from polykern.spectra import channels, powerlaw
from polykern.spectra.moments import GROUPS, ActivationMoments, CodeMoments, Moments
from polykern.spectra.result import ACTIVATIONS, CODES, Spectra, Spectrum
from polykern.statistics import jackknife
from polykern.store import Store
from polykern.store.rows import Rows
from polykern.tail import Tail
from polykern.tracing import trace
from polykern.versions import recorded

Documents = NDArray[Any]
Chunk = tuple[Tensor | Codes, Documents]
BATCH = 64  # examples a pass
MEMORY = 8 << 30  # bytes of the moments of one site


class Site(NamedTuple):
    """A layer and its rows.

    name    of the nonlinearity, or of kept activations
    kind    "activations" or "codes"
    width   columns of a row
    chunks  (rows, document of each); of the groups of documents that this process makes at least
    """

    name: str
    kind: str
    width: int
    chunks: Iterator[Chunk]

    @property
    def label(self) -> str:
        """What it is called."""
        return f"{self.name} ({CODES})" if self.kind == CODES else self.name


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

    Moments are float64 sums; those of codes are exact. Of W processes (`polykern.ranks`) each makes every W-th
    group of documents, and all give the result of one, bit for bit. Rows of one document are not independent:
    intervals are of the jackknife over groups (Efron and Tibshirani 1993). With fewer than ten rows a column the
    exponent is biased, and the result says so. Stringer et al. 2019; Marshall and Kirchner 2024, "Understanding
    polysemanticity in neural networks through coding theory".

    Errors: UsageError for a site that there is not, constant activations, a rank below the window, or nothing to
    measure; ResourceError for moments of more than 8 GiB a site; CorruptError for NaN.
    """
    if groups < 2:
        raise UsageError(f"{groups} group of documents gives no interval", fix="take two or more, better sixteen")
    if not 0 < level < 1:
        raise UsageError(f"the level of an interval is between 0 and 1, got {level:g}")
    if dimension is not None:
        powerlaw.critical(dimension)  # refuses what is none
    tell = progress or silent
    at = ranks()
    if isinstance(source, Store):
        streams = _of_store(source, sites, codes)
    else:
        streams = of_subject(source, sites, codes, groups, at)
    if not streams:
        raise UsageError(
            "there is nothing to measure", why="no activations are asked for, and codes are left out",
            fix="take codes too, or capture with --activations",
        )  # fmt: skip
    found: dict[str, Spectrum] = {}
    left_out: dict[str, str] = {}
    for k, site in enumerate(streams):
        tell("sites", k, len(streams))
        moments, documents = _gathered(site, groups, at)
        try:
            found[site.label] = measured(
                site.label, moments, documents, first=first, last=last, centred=centred, level=level
            )
        except UsageError as reason:
            if sites is not None:
                raise
            left_out[site.label] = reason.what
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

    Every rank passes the same moments and gets the same spectrum; they share the work of the interval.
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
    at, own = ranks(), []
    for group in filled[at.rank :: at.size].tolist():
        weights = np.ones(len(moments.rows))
        weights[group] = 0
        own.append(torch.from_numpy(eigenvalues(moments.read(weights, centred=centred))))
    shares = at.gathered(torch.stack(own) if own else torch.zeros((0, moments.width), dtype=torch.float64))
    return [shares[k % at.size][k // at.size].numpy() for k in range(len(filled))]


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


def _gathered(site: Site, groups: int, at: Ranks) -> tuple[Moments, int]:
    """The moments of all chunks of all ranks, and how many documents they are of."""
    _require_room(site.label, site.width, groups)
    kind = CodeMoments if site.kind == CODES else ActivationMoments
    moments: ActivationMoments | CodeMoments = kind(site.width, groups)
    documents: set[int] = set()
    for rows, number in site.chunks:
        own = np.flatnonzero(number % groups % at.size == at.rank)
        if len(own):
            some = rows.words if isinstance(rows, Codes) else rows
            moments.add(some[torch.from_numpy(own)] if at.size > 1 else some, number[own])
            documents.update(np.unique(number[own]).tolist())
    moments.share(at)
    if not moments.rows.sum():
        raise UsageError(f"{site.label} has no rows to take a spectrum of")
    return moments, int(at.total(torch.tensor(len(documents))))


def _of_store(store: Store, sites: Sequence[str] | None, codes: bool) -> list[Site]:
    kept = store.manifest.activations
    fields = {f.name: f for f in store.layout.fields}
    wanted = list(kept) if sites is None else list(sites)
    for name in wanted:
        if name not in kept and name not in fields:
            raise UsageError(
                f"{store.path} knows no site {name!r}",
                why=f"it keeps the activations of {', '.join(kept) or 'none'}, and codes of {', '.join(fields)}",
                fix="name one of them, or capture again with --activations",
            )
    if not wanted:  # no activations are kept: codes alone
        wanted = list(fields)

    def values(name: str) -> Iterator[Chunk]:
        for shard in store.shards([store.layout.fields[0].name], activations=[name]):
            yield _by_place(shard.activations[name], _documents(shard))

    def bits(name: str) -> Iterator[Chunk]:
        for shard in store.shards([name]):
            yield shard.codes, _documents(shard)

    streams = [Site(n, ACTIVATIONS, _width(kept[n].shape), values(n)) for n in wanted if n in kept]
    return streams + [Site(n, CODES, fields[n].bits, bits(n)) for n in wanted if codes and n in fields]


def _documents(rows: Rows) -> Documents:
    return rows.columns.get("doc", rows.index)


def of_subject(
    subject: Subject, sites: Sequence[str] | None, codes: bool, groups: int = GROUPS, at: Ranks | None = None
) -> list[Site]:
    """Pre-activations of a subject's examples, and their codes, site by site; of feature maps place by place.

    Of the examples of some groups, those that rank `at` makes of `groups`; None: of all of them.
    """
    at = at or Ranks()
    fields = Tail(subject.model, subject.sample, select="*" if sites is None else list(sites)).layout.fields

    def values(field: Field) -> Iterator[Chunk]:
        for group in range(at.rank, min(groups, len(subject.examples)), at.size):  # a pass holds one group's
            own = range(group, len(subject.examples), groups)
            for first in range(0, len(own), BATCH):
                some = own[first : first + BATCH]
                with trace(subject.model, select=[field.name], values=True) as t:
                    t.run(stacked(subject.examples, some))
                yield _by_place(t.values[field.name], np.asarray(some))

    def of(field: Field) -> Field:
        return Field(field.module, field.call, field.kind, (_width(field.shape),), field.thresholds, 0)

    def bits(field: Field) -> Iterator[Chunk]:
        for rows, documents in values(field):
            assert isinstance(rows, Tensor)
            yield Codes(packed(of(field), rows), Layout.of([of(field)])), documents

    streams = [Site(f.name, ACTIVATIONS, _width(f.shape), values(f)) for f in fields]
    return streams + [Site(f.name, CODES, of(f).bits, bits(f)) for f in fields if codes]


def _width(shape: Sequence[int]) -> int:
    """Columns of a row: units, or the channels of a feature map."""
    return shape[0] if len(shape) > 1 else prod(shape)


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

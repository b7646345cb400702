"""`pk.pairs`: a network and labelled items to densities within and between classes, stage by stage."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polykern.codes import Codes
from polykern.densities.draw import Drawn, drawn
from polykern.densities.result import Pairs, Stage
from polykern.densities.stages import Place, codes, items, places
from polykern.errors import UsageError
from polykern.findings import provenance
from polykern.models import Subject, stacked
from polykern.models.untrained import untrained
from polykern.progress import Progress
from polykern.tail import Tail

COUNT = 1000
TRAINED, UNTRAINED, CALIBRATED = "trained", "untrained", "untrained, BatchNorm measured"
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def pairs(
    subject: Subject,
    *,
    data: Path | str | None = None,
    stages: Sequence[str] | None = None,
    count: int = COUNT,
    controls: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Pairs:
    """The density of boundaries between pairs of items, within classes and between them.

    subject   a network and its data, whose numbered examples have right classes
    data      instead a folder with a folder of files for each class
    stages    modules in whose input spaces pairs are taken; None: all (`polykern.densities.stages.places`)
    count     pairs within classes, and as many between
    controls  the same of untrained weights; where there is BatchNorm also with its statistics measured on the items
    seed      of pairs, weights and intervals
    progress  called with (stage, done, total)

    One code an item is computed; the codes of later stages are its ends. Counts are exact for the float32 network.
    Density falls with distance by itself: the gap at equal distance and that of random hyperplanes stand beside
    it. Black et al. 2022, "Interpreting Neural Networks through the Polytope Lens", predictions 1 and 2.

    Errors: UsageError for examples without classes, one class only, too few pairs, a module that there is not.
    """
    batch, classes = _labelled(subject) if data is None else _folder(subject, Path(data))
    pairs = drawn(classes, count, seed)
    every = places(subject, stages)
    networks = {TRAINED: subject}
    if controls:
        networks[UNTRAINED] = untrained(subject, seed=seed)
        if any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in subject.model.modules()):
            networks[CALIBRATED] = untrained(subject, calibrated=True, seed=seed, inputs=batch)
    found: dict[str, list[Stage]] = {}
    for k, (name, network) in enumerate(networks.items()):
        if progress:
            progress("networks", k, len(networks))
        found[name] = _stages(network, batch, pairs, every)
    if progress:
        progress("networks", len(networks), len(networks))
    tail = Tail(subject.model, subject.sample, every[0].name)
    about = provenance(
        subject, tail, seed=seed, pairs=count, items=len(batch), classes=len(np.unique(classes)),
        reused=pairs.reused, stages=[p.name for p in every],
    )  # fmt: skip
    return Pairs(about, found, every[0].fields)


def _stages(subject: Subject, batch: Tensor, pairs: Drawn, every: Sequence[Place]) -> list[Stage]:
    whole = codes(subject, batch, every[0])
    first, second = torch.from_numpy(pairs.first), torch.from_numpy(pairs.second)
    apart = whole[first].aligned_by_field(whole[second]).numpy().astype(np.int64)
    nothing = Codes(torch.zeros_like(whole.words), whole.layout)
    active = whole.aligned_by_field(nothing).numpy().astype(np.int64)
    names = [f.name for f in whole.layout.fields]
    found = []
    for place in every:
        mine = [names.index(name) for name in place.fields]
        x = items(subject, batch, place).double()
        a, b = x[first], x[second]
        cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-300)
        d, on = apart[mine], active[mine].sum(0)
        union = (on[pairs.first] + on[pairs.second] + d.sum(0)) / 2
        jaccard = np.divide(d.sum(0), union, out=np.zeros(len(union)), where=union > 0)
        bits = sum(whole.layout.fields[k].bits for k in mine)
        distance = (a - b).norm(dim=1).numpy()
        _require_apart(place, distance)
        angle = cosine.clamp(-1, 1).arccos().numpy()
        found.append(Stage(place.name, bits, pairs, distance, angle, d, jaccard))
    return found


def _require_apart(place: Place, distance: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    if not (distance > 0).all():
        raise UsageError(
            f"{int((distance == 0).sum())} pairs are of equal items in the input of {place.name or 'the model'}",
            why="their density is 0 / 0",
            fix="leave copies out",
        )


def _labelled(subject: Subject) -> tuple[Tensor, tuple[int, ...]]:
    targets = subject.examples.targets
    if targets is None:
        raise UsageError(
            f"nobody knows the classes of {subject.name}'s examples",
            fix="--data FOLDER, with a folder of files for each class",
        )
    return stacked(subject.examples), targets


def _folder(subject: Subject, folder: Path) -> tuple[Tensor, list[int]]:
    groups = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    files = [
        (k, path) for k, g in enumerate(groups) for path in sorted(g.iterdir()) if path.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise UsageError(f"{folder} holds no folders of pictures", fix="a folder for each class, pictures in them")
    return torch.stack([subject.examples.read(path).input for _, path in files]), [k for k, _ in files]

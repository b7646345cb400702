"""`pk.redundancy`: the same network trained with more and more dropout, and what that does to its hidden code."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polykern.coding import knockout
from polykern.coding.classes import class_codes
from polykern.coding.result import Network, Redundancy
from polykern.coding.training import Kind, Trained, kind, labels, trained
from polykern.errors import UsageError
from polykern.findings import RECORDED
from polykern.models import digits
from polykern.progress import Progress, silent
from polykern.spectra import ActivationMoments, Spectrum
from polykern.spectra.compute import measured
from polykern.versions import recorded

DROPOUTS = (0.0, 0.1, 0.3, 0.5)
EPOCHS = 20  # so that twelve networks are trained within a minute
GROUPS = 16  # of images, for intervals


def redundancy(
    model: str = "digits",
    *,
    dropouts: Sequence[float] = DROPOUTS,
    seeds: int = 3,
    epochs: int = EPOCHS,
    repeats: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
) -> Redundancy:
    """What dropout does to a hidden code: its spectrum, its robustness to failing neurons, its distances.

    model     "digits": the digits network, dropout on its last hidden layer (128 units); "autoencoder": a residual
              autoencoder of the same images, dropout on its code (48 units), spectra by layer over its training
    dropouts  shares of the units that training leaves out, 0 <= p < 1
    seeds     networks of each, with initial weights, order and distortions of seed, seed + 1, ...
    epochs    passes over the 1,500 training images; the usual digits network has 30
    repeats   orders in which neurons are zeroed
    seed      the first one
    progress  called with (stage, done, total)

    Spectra are of the layer's outputs for all 1,797 images, intervals of their exponents of the jackknife over 16
    groups of images; scores, knock-outs and distances of codes are of the 297 test images. Training is float32 on
    one thread: the same machine and torch give the same bits. Marshall and Kirchner 2024, "Understanding
    polysemanticity in neural networks through coding theory".

    Errors: UsageError for another model, a share outside 0 .. 1, the same share twice, or no networks.
    """
    of = kind(model)
    shares = sorted(float(p) for p in dropouts)
    if not shares or not all(0 <= p < 1 for p in shares) or len(set(shares)) < len(shares):
        raise UsageError(f"dropout of {list(dropouts)}", fix="take different shares, each from 0 to less than 1")
    if min(seeds, epochs, repeats) < 1:
        raise UsageError(f"{seeds} networks, {epochs} epochs, {repeats} repeats", fix="take at least one of each")
    tell = progress or silent
    wanted = [(p, seed + k) for p in shares for k in range(seeds)]
    networks = []
    for done, (p, own) in enumerate(wanted):
        tell("networks", done, len(wanted))
        with torch.no_grad():
            networks.append(_network(of, trained(of, p, own, epochs), repeats))
    tell("networks", len(wanted), len(wanted))
    about = {
        "model": {"name": model, "note": of.note},
        "seed": seed,
        "settings": {
            "dropouts": shares, "seeds": seeds, "epochs": epochs, "repeats": repeats, "code": of.code,
            "ranks": list(of.ranks), "score": of.score, "groups": GROUPS,
        },
        "versions": recorded(*RECORDED),
    }  # fmt: skip
    return Redundancy(about, tuple(networks))


def _network(of: Kind, found: Trained, repeats: int) -> Network:
    last = max(step for step, _ in found.layers)
    code = found.layers[last, of.code]
    classes, train = labels(), digits.TRAIN
    bits = (code > 0).numpy()
    return Network(
        found.dropout,
        found.seed,
        knockout.curves(found.score, code.shape[1], repeats=repeats, seed=found.seed),
        class_codes(bits[:train], classes[:train], bits[train:], classes[train:]),
        {place: _spectrum(place, rows, of.ranks) for place, rows in found.layers.items()},
        last,
    )


def _spectrum(place: tuple[int, str], rows: Tensor, ranks: tuple[int, int]) -> Spectrum | None:
    """Of the rows, an image each; None where too few units are in use for the window of ranks."""
    moments = ActivationMoments(rows.shape[1], GROUPS)
    moments.add(rows, np.arange(len(rows)))
    try:
        return measured(f"{place[1]} at step {place[0]}", moments, len(rows), first=ranks[0], last=ranks[1])
    except UsageError:
        return None

"""`pk.ray`: from a network and activations to the densities along the rays through them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from polykern.errors import UsageError
from polykern.findings import provenance
from polykern.heat import activations
from polykern.lines.networks import require_points
from polykern.models import Subject
from polykern.models.untrained import untrained
from polykern.paths.along import rays
from polykern.paths.beams import SHOWN, SMOOTHED, Beam, Ray
from polykern.paths.evaluation import follows_classes, tail_at
from polykern.paths.relatedness import read_synsets, relatedness
from polykern.progress import Progress
from polykern.selectors import Select
from polykern.tail import Tail
from polykern.wordnet import WordNet

REACH, POINTS, IMAGES, NOISE = 5.0, 500, 16, 8
NEAR = 1e-6  # of a step: where rays begin, off the origin, at which units without bias are 0


def ray(
    subject: Subject,
    inputs: Sequence[str | int] | Tensor | None = None,
    *,
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    images: int = IMAGES,
    noise: int = NOISE,
    reach: float = REACH,
    points: int = POINTS,
    exact: bool | None = None,
    classes: bool | None = None,
    controls: bool = True,
    wordnet: Path | str | None = None,
    synsets: Path | str | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Ray:
    """Density of boundaries, class and outputs along x(s) = s x, from the origin through activations and beyond.

    subject   a network and its data: `polykern.load(...)`, or `Subject(...)` of your own
    inputs    examples (numbers or files) whose rays are drawn and counted; or activations, float (n, *shape) in the
              space of `start`; None: the subject's first two
    start     module into whose input space the rays are laid; None: the subject's own, "" the model's input
    stop      module after whose output the code ends; "" the model's output
    select    which nonlinearities make the code (`polykern.selectors`)
    images    rays through images, these and as many more examples at random as it takes
    noise     rays along Gaussian noise, and as many along its absolute value, of the images' mean norm
    reach     largest s
    points    scales s up to there, at equal distances
    exact     True: list every crossing; False: sample; None: exactly where that is possible and
              the code has at most 32,768 bits
    classes   follow the argmax of the output; None: where the subject names classes or knows those of its images
    controls  also through the untrained network, and through one with measured statistics where it has BatchNorm
    wordnet   folder of WordNet, by which classes that follow each other on rays through images are compared
    synsets   file with a noun synset a line for each class, "n01440764"; None: by the names of the classes
              (`polykern.wordnet`)
    seed      of images, noise, controls and intervals
    device    "cpu", "cuda:0", ...
    progress  called with (stage, done, total)
    returns   Ray

    Densities are crossings per unit of length. Exact crossings and changes of the class for piecewise-linear
    networks, else codes at the scales and half way between, changes to 1e-4 in s. Rays begin just off the origin.
    At s = 1 the point is the activation, bit for bit. Errors: UsageError for shapes that do not fit, an
    activation that is zero, an unknown module, or classes without names or synsets where they are compared. Black
    et al. 2022, "Interpreting Neural Networks through the Polytope Lens", prediction 3 and appendix B.
    """
    _require(images, noise, reach, points)
    s = np.linspace(0, reach, points + 1)
    s[0] = NEAR * s[1]
    own = tail_at(subject, start, stop, select, device)
    followed = follows_classes(subject, classes)
    known = _synsets(subject, wordnet, synsets, followed)
    beams: list[Beam] = []
    for network, twin in _networks(subject, controls, seed):
        tail = own if network == "itself" else tail_at(twin, own.start, stop, select, device)
        given = None if network != "itself" and isinstance(inputs, Tensor) else inputs
        x, labels = _through(twin, tail, given, images, seed)
        for direction, targets, names in _directions(x, labels, noise, seed):
            found = rays(tail, targets, s, exact=exact, classes=followed, progress=progress)
            beams.append(Beam(network, direction, tuple(names), tuple(found)))
    about = provenance(
        subject, own, seed=seed, images=images, noise=noise, reach=reach, points=points, controls=controls
    )
    related = None
    if known is not None:
        related = relatedness(*known, [r.classes.tolist() for r in beams[0].rays], seed)
    return Ray(about, tuple(beams), subject.classes, seed, related)


def _synsets(
    subject: Subject, wordnet: Path | str | None, synsets: Path | str | None, followed: bool
) -> tuple[WordNet, tuple[str | None, ...]] | None:
    """WordNet and the synset of every class; None where they are not asked for."""
    if wordnet is None:
        if synsets is not None:
            raise UsageError("synsets are compared in WordNet", fix="name its folder too")
        return None
    if subject.classes is None or not followed:
        raise UsageError(f"{subject.name} has no named classes to compare" if subject.classes is None else
                         "classes are to be compared and not followed", fix="leave WordNet out")  # fmt: skip
    words = WordNet(Path(wordnet))
    if synsets is not None:
        return words, read_synsets(words, Path(synsets), len(subject.classes))
    return words, words.matched(subject.classes)


def _networks(subject: Subject, controls: bool, seed: int) -> Iterator[tuple[str, Subject]]:
    yield "itself", subject
    if controls:
        yield "untrained", untrained(subject, seed=seed)
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in subject.model.modules()):
            yield "calibrated", untrained(subject, calibrated=True, seed=seed)


def _through(
    subject: Subject, tail: Tail, inputs: Sequence[str | int] | Tensor | None, images: int, seed: int
) -> tuple[Tensor, list[str]]:
    """float64 (n, *shape): activations that rays go through, and their labels."""
    if isinstance(inputs, Tensor):
        return _nonzero(require_points(tail, inputs, "an activation")), [str(k) for k in range(len(inputs))]
    chosen = list(subject.default_examples[:SHOWN]) if inputs is None else list(inputs)
    known = {str(c) for c in chosen}
    others = [
        k for k in np.random.default_rng(seed).permutation(len(subject.examples)).tolist() if str(k) not in known
    ]
    chosen = [*chosen, *others[: max(0, images - len(chosen))]]
    batch, labels, _ = subject.inputs(chosen)
    x = require_points(tail, activations(subject, tail.start, batch), "an activation")
    return _nonzero(x), labels


def _nonzero(x: Tensor) -> Tensor:
    norms = x.flatten(1).norm(dim=1)
    if not bool((norms > 0).all()):
        raise UsageError(f"activation {int((norms == 0).int().argmax())} is zero: no ray goes through it")
    return x


def _directions(x: Tensor, labels: list[str], noise: int, seed: int) -> Iterator[tuple[str, Tensor, list[str]]]:
    yield "images", x, labels
    if noise:
        drawn = torch.randn(noise, *x.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        drawn = drawn.to(x.device) * (x.flatten(1).norm(dim=1).mean() / drawn.flatten(1).norm(dim=1).mean())
        names = [f"noise {k}" for k in range(noise)]
        yield "gaussian", drawn, names
        yield "absolute", drawn.abs(), names


def _require(images: int, noise: int, reach: float, points: int) -> None:
    if images < 1 or noise < 0:
        raise UsageError(f"rays go through one image at least, and noise is not negative, got {images} and {noise}")
    if not SMOOTHED <= reach < float("inf"):
        raise UsageError(f"a ray reaches to {SMOOTHED} at least, over which densities are smoothed, got {reach}")
    if points < 3:
        raise UsageError(f"a ray has three points at least, got {points}")

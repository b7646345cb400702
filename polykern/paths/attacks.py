"""Projected gradient descent in the input of a network, and the ways that an adversarial one is compared with."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from polykern.arithmetic import ieee
from polykern.errors import UsageError

NORMS = ("linf", "l2")
Scores = Callable[[Tensor], Tensor]  # (n, *shape) -> (n, classes)
EAGER = 2.5  # radii that all steps together could go


def attack(
    model: Scores, x: Tensor, classes: Tensor, *, radius: float, norm: str = "linf", steps: int = 20
) -> Tensor:
    """The way of an untargeted attack by projected gradient descent, from the clean inputs on.

    model    in eval mode, or what else gives scores (n, classes)
    x        float (n, *shape): clean inputs
    classes  int64 (n): to be left
    radius   of the ball about x that is not left, in the units of the input
    norm     "linf" or "l2"
    steps    each 2.5 radius / steps long
    returns  float (steps + 1, n, *shape); the first are x

    Deterministic: it starts at x. Errors: UsageError for another norm, or a radius or steps that are not positive.
    Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks".
    """
    if norm not in NORMS:
        raise UsageError(f"no norm is called {norm!r}", fix=f"choose one of {', '.join(NORMS)}")
    if not 0 < radius < float("inf") or steps < 1:
        raise UsageError(f"an attack has a positive radius and one step at least, got {radius} and {steps}")
    way, rate = [x.detach()], EAGER * radius / steps
    for _ in range(steps):
        slope = _slope(model, way[-1], classes)
        moved = way[-1] + rate * (slope.sign() if norm == "linf" else slope / _lengths(slope).clamp_min(1e-30))
        delta = moved - x
        if norm == "linf":
            delta = delta.clamp(-radius, radius)
        else:
            delta = delta * (radius / _lengths(delta).clamp_min(1e-30)).clamp_max(1)
        way.append(x + delta)
    return torch.stack(way)


def _slope(model: Scores, x: Tensor, classes: Tensor) -> Tensor:
    """The gradient of each input's cross-entropy."""
    with torch.enable_grad(), ieee():
        leaf = x.detach().clone().requires_grad_()
        loss = F.cross_entropy(model(leaf.clone()), classes, reduction="sum")  # the first module may overwrite it
        (found,) = torch.autograd.grad(loss, leaf)
    return found


def _lengths(x: Tensor) -> Tensor:
    """(n, 1, ...): the L2 norm of each row."""
    found: Tensor = x.flatten(1).norm(dim=1).reshape(-1, *(1,) * (x.ndim - 1))
    return found


def beside(x: Tensor, towards: Tensor, length: Tensor) -> Tensor:
    """The points at a distance from x in the direction of others.

    x, towards  float64 (n, *shape)
    length      float64 (n)
    """
    step = towards - x
    return x + step * (length.reshape(-1, *(1,) * (x.ndim - 1)) / _lengths(step))


def neighbours(x: Tensor, classes: Tensor, pool: Tensor, pool_classes: Tensor) -> Tensor:
    """float64 (n, *shape): for each x the nearest of the pool that has its class and is not x.

    x, pool                float64 (n, *shape), (m, *shape)
    classes, pool_classes  int64 (n), (m)

    Errors: UsageError naming a class with no other image.
    """
    apart = torch.cdist(x.flatten(1), pool.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    barred = (classes[:, None] != pool_classes) | (apart == 0)
    apart = apart.masked_fill(barred, torch.inf)
    alone = barred.all(1)
    if bool(alone.any()):
        raise UsageError(
            f"an image of class {int(classes[alone][0])} has no neighbour of its class", fix="take more images"
        )
    return pool[apart.argmin(1)]

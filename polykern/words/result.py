"""What is found between words, layer by layer."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError
from polykern.findings import Findings, Picture, Table
from polykern.report import charts
from polykern.statistics import Estimate, bootstrap, mean
from polykern.words.draw import Drawn

Reals = NDArray[np.float64]
KINDS = ("synonyms", "others")
LEVEL, RESAMPLES = 0.95, 2000


@dataclass(frozen=True, eq=False)
class Synonyms(Findings):
    """Pairs of words in every MLP of a language model. Axis 0 as in `KINDS`: with the synonym, with another word.

    layers    names of the nonlinearities, in order
    bits      of each
    words     first, second and other word of the n pairs
    hamming   int64 (2, layers, n)      bits in which the codes of the two words differ
    distance  float64 (2, layers, n)    L2, of what enters the MLP
    sizes     int64 (2, n, 2)           tokens of the first and the second words, and ranks of their rarest token
    seed      of the intervals
    """

    layers: tuple[str, ...]
    bits: tuple[int, ...]
    words: Drawn
    hamming: NDArray[np.int64]
    distance: Reals
    sizes: NDArray[np.int64]
    seed: int

    SCHEMA: ClassVar[str] = "polykern-synonyms/1"

    def __post_init__(self) -> None:
        if not (self.distance > 0).all():
            kind, layer, pair = np.argwhere(self.distance == 0)[0]
            raise UsageError(
                f"{self.words.first[pair]!r} and {(self.words.second, self.words.other)[kind][pair]!r} are one "
                f"vector in front of {self.layers[layer]}",
                why="their density is 0 / 0",
            )

    @cached_property
    def density(self) -> Reals:
        """float64 (2, layers, n): bits that differ per L2."""
        return np.asarray(self.hamming / self.distance)

    @cached_property
    def share(self) -> Reals:
        """float64 (2, layers, n): of the layer's bits that differ."""
        return np.asarray(self.hamming / np.array(self.bits)[:, None])

    def mean(self, values: Reals, kind: int, layer: int) -> Estimate:
        """Mean over pairs; 95 % interval by pairs."""
        return mean(values[kind, layer], level=LEVEL, resamples=RESAMPLES, seed=self.seed)

    def ratio(self, layer: int) -> Estimate:
        """Mean density between synonyms over that between others; the interval draws words with both partners."""
        with np.errstate(divide="ignore", invalid="ignore"):  # where nothing lies between the others
            return bootstrap(
                lambda a, b: a.mean(-1) / b.mean(-1), *self.density[:, layer], level=LEVEL, resamples=RESAMPLES,
                seed=self.seed,
            )  # fmt: skip

    def trend(self, kind: int) -> Estimate:
        """Rank correlation of depth and mean density; the interval draws pairs, the same at every layer."""
        from scipy.stats import rankdata

        rng, n = np.random.default_rng(self.seed), self.density.shape[2]
        weights = np.concatenate([np.full((1, n), 1.0), rng.multinomial(n, np.full(n, 1 / n), RESAMPLES)])
        ranks = rankdata(weights @ self.density[kind].T, axis=1)
        ranks -= ranks.mean(1, keepdims=True)
        depth = np.arange(len(self.layers)) - (len(self.layers) - 1) / 2
        with np.errstate(invalid="ignore"):
            rho = ranks @ depth / np.sqrt((ranks**2).sum(1) * (depth**2).sum())
        return Estimate.of(float(rho[0]), rho[1:], LEVEL)

    def slopes(self, kind: int) -> dict[str, Estimate] | None:
        """The change of the mean logarithm from the first to the last layer, by least squares, and its two parts.

        "density" is the sum of "bits", that of the Hamming distance, and "distance", minus that of the L2 distance.
        Pairs whose codes are equal in some layer have no logarithm and are left out; None of fewer than two others.
        """
        held = (self.hamming[kind] > 0).all(0)
        if held.sum() < 2:
            return None
        depth = np.linspace(-0.5, 0.5, len(self.layers))
        fit = depth / (depth**2).sum()
        bits = fit @ np.log(self.hamming[kind][:, held])
        apart = -fit @ np.log(self.distance[kind][:, held])
        return {
            name: mean(values, level=LEVEL, resamples=RESAMPLES, seed=self.seed)
            for name, values in (("density", bits + apart), ("bits", bits), ("distance", apart))
        }

    def equal(self, kind: int) -> int:
        """Pairs whose codes are equal in some layer."""
        return int((self.hamming[kind] == 0).any(0).sum())

    def numbers(self) -> dict[str, Any]:
        found: dict[str, Any] = {"pairs": self.density.shape[2], "layers": {}}
        for k, layer in enumerate(self.layers):
            of: dict[str, Any] = {"bits": self.bits[k], "ratio": self.ratio(k).as_dict()}
            for c, kind in enumerate(KINDS):
                of[kind] = {
                    name: self.mean(values, c, k).as_dict()
                    for name, values in (("density", self.density), ("share of bits", self.share),
                                         ("distance", self.distance))
                }  # fmt: skip
            found["layers"][layer] = of
        if len(self.layers) > 1:
            for c, kind in enumerate(KINDS):
                slopes = self.slopes(c)
                found[kind] = {
                    "rank correlation of depth and density": self.trend(c).as_dict(),
                    "change of the mean logarithm": slopes and {k: e.as_dict() for k, e in slopes.items()},
                    "pairs with equal codes": self.equal(c),
                }
        return found

    def tables(self) -> dict[str, Table]:
        n, layers = self.density.shape[2], len(self.layers)
        (first, second), words = self.sizes, self.words
        by_pair: Table = {
            "first": words.first, "second": words.second, "other": words.other, "tokens_first": first[:, 0],
            "rank_first": first[:, 1], "tokens_second": second[:, 0], "rank_second": second[:, 1],
        }  # fmt: skip
        every: Table = {
            "kind": np.repeat(KINDS, layers * n),
            "layer": np.tile(np.repeat(self.layers, n), 2),
            "pair": np.tile(np.arange(n), 2 * layers),
            "hamming": self.hamming.ravel(),
            "distance": self.distance.ravel(),
        }
        return {"words": by_pair, "pairs": every}

    def pictures(self) -> dict[str, Picture]:
        return {"synonyms": Picture(1200, 520, self._draw)}

    def _draw(self, figure: Any) -> None:
        drawn = charts.panels(
            figure, ["density", "bits that differ", "L2 distance of the MLP's inputs"], columns=3,
            heading=f"Boundaries between words: {self.about['model']['name']}",
            subtitle=f"{self.density.shape[2]} pairs of synonyms, and the same words exchanged among them; the "
            f"last token of each in \"{self.about['settings']['text']}\"",
            note="Means over pairs, bands 95 % bootstrap intervals by pairs.",
        )  # fmt: skip
        kinds = (self.density, "bits per L2"), (self.share, "share of the layer's bits"), (self.distance, "L2")
        for axes, (values, unit) in zip(drawn, kinds, strict=True):
            for c, kind in enumerate(("synonyms", "other words")):
                each = [self.mean(values, c, k) for k in range(len(self.layers))]
                charts.line(
                    axes, range(len(each)), [e.value for e in each], label=kind, colour=charts.PALETTE[c],
                    low=[e.low for e in each], high=[e.high for e in each], marker="o", ms=3,
                )  # fmt: skip
            charts.named(axes, "layer", unit)
            axes.set_ylim(0, 1.22 * axes.get_ylim()[1])
            axes.xaxis.get_major_locator().set_params(integer=True)
        charts.legend(drawn[0], loc="upper right", ncols=2)

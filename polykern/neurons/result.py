"""The features of every neuron of a network, with the examples they were found on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from polykern.errors import CorruptError
from polykern.findings import Findings, Picture, Table
from polykern.neurons.clusters import METRICS, SWEEP, Features
from polykern.statistics import mean
from polykern.store.disk import put

ARRAYS = ("value", "activation", "row", "window")
FEATURES = ("label", "size", "count", "sweep", "metrics", "central", "members")
SIMILAR, IMPORTANCE = ("similar_index", "similar_cosine"), "importance"


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer: n neurons, k examples each at most, c features in all.

    name            of the nonlinearity
    value           float32 (n, k)      pre-activations of the examples, the largest first; -inf where there is none
    activation      float32 (n, k)      behind the nonlinearity
    row             int64 (n, k)        number of the token among all that were read
    window          float16 (n, k, 31)  pre-activations from 20 tokens before to 10 behind
    features        their clusters
    similar_index   int64 (c, 20)       most similar features of other neurons of the layer, -1 where there are none
    similar_cosine  float32 (c, 20)
    importance      float16 (c, m, 21)  of the tokens up to an example's, of the first m examples of each feature
                    (`Features.ordered`); nan where there is none; None where it was not asked for
    autoencoder     of latents: `error`, `l0`, `dead` and `rows` of `polykern.neurons.latent.Quality`; else None
    """

    name: str
    value: NDArray[np.float32]
    activation: NDArray[np.float32]
    row: NDArray[np.int64]
    window: NDArray[np.float16]
    features: Features
    similar_index: NDArray[np.int64]
    similar_cosine: NDArray[np.float32]
    importance: NDArray[np.float16] | None = None
    autoencoder: dict[str, Any] | None = None

    @property
    def dead(self) -> NDArray[np.bool_]:
        """bool (n): neurons that no token makes fire."""
        return np.asarray(self.features.size == 0)

    @property
    def capped(self) -> NDArray[np.bool_]:
        """bool (n): neurons that have as many examples as were kept, and may have more."""
        return np.asarray(self.features.size == self.value.shape[1])

    def as_dict(self, seed: int) -> dict[str, Any]:
        """For JSON: counts, and means over neurons that fire with their intervals."""
        alive = ~self.dead
        told: dict[str, Any] = {
            "neurons": len(self.value),
            "dead": int(self.dead.sum()),
            "capped": int(self.capped.sum()),
            "features": len(self.features.members),
            "clusters_by_cut": {},
        }
        if alive.any():
            cuts = self.features.sweep[alive].mean(0).tolist()
            told["clusters_by_cut"] = dict(zip(map(str, SWEEP), cuts, strict=True))
        for name, values in (
            ("clusters", self.features.count),
            *zip(METRICS, self.features.metrics.T, strict=True),
        ):
            held = np.asarray(values, np.float64)[alive]
            held = held[~np.isnan(held)]
            told[name] = mean(held, level=0.95, resamples=2000, seed=seed).as_dict() if len(held) > 1 else None
        return told if self.autoencoder is None else told | {"autoencoder": self.autoencoder}


@dataclass(frozen=True, eq=False)
class Embeddings(Findings):
    """The features of all neurons.

    layers  in order
    token   int32 (t)   ids of all tokens that were read
    piece   list (t)    the text each stands for
    start   int64 (s)   where each sequence begins among them
    """

    layers: list[Layer]
    token: NDArray[np.int32]
    piece: Sequence[str]
    start: NDArray[np.int64]

    SCHEMA: ClassVar[str] = "polykern-embeddings/1"

    def numbers(self) -> dict[str, Any]:
        return {layer.name: layer.as_dict(0) for layer in self.layers}

    def tables(self) -> dict[str, Table]:
        every = self.layers
        n = [len(x.value) for x in every]
        joined: dict[str, Any] = {
            "layer": np.repeat([x.name for x in every], n),
            "neuron": np.concatenate([np.arange(m) for m in n]),
            "examples": np.concatenate([x.features.size for x in every]),
            "capped": np.concatenate([x.capped for x in every]),
            "largest": np.concatenate([x.activation[:, 0] for x in every]),
            "clusters": np.concatenate([x.features.count for x in every]),
        }
        for k, name in enumerate(METRICS):
            joined[name] = np.concatenate([x.features.metrics[:, k] for x in every])
        for k, cut in enumerate(SWEEP):
            joined[f"clusters_{cut}"] = np.concatenate([x.features.sweep[:, k] for x in every])
        return {"neurons": joined}

    def pictures(self) -> dict[str, Picture]:
        from polykern.neurons import figure

        return {"polysemanticity": Picture(1200, 560, lambda sheet: figure.polysemanticity(sheet, self))}

    def context(self, row: int, before: int = 20, after: int = 10) -> tuple[list[str], int]:
        """The tokens around one, inside its sequence, and where it is among them."""
        s = int(np.searchsorted(self.start, row, side="right")) - 1
        end = int(self.start[s + 1]) if s + 1 < len(self.start) else len(self.token)
        first, last = max(int(self.start[s]), row - before), min(end, row + after + 1)
        return list(self.piece[first:last]), row - first

    def keep(self, folder: Path) -> list[Path]:
        """The arrays of every layer and the tokens, for `open`."""
        from safetensors.numpy import save

        written = []
        for k, layer in enumerate(self.layers):
            arrays: dict[str, NDArray[Any]] = {name: getattr(layer, name) for name in (*ARRAYS, *SIMILAR)}
            arrays |= {name: getattr(layer.features, name) for name in FEATURES}
            arrays |= {} if layer.importance is None else {IMPORTANCE: layer.importance}
            written.append(folder / f"layer-{k:02d}.safetensors")
            put(written[-1], [save({a: np.ascontiguousarray(v) for a, v in arrays.items()})])
        written += [folder / "tokens.safetensors", folder / "pieces.json"]
        put(written[-2], [save({"token": self.token, "start": self.start})])
        put(written[-1], [json.dumps(list(self.piece)).encode()])
        return written

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """The embeddings that `save` wrote.

        Errors: CorruptError naming the file that is damaged or missing.
        """
        from safetensors.numpy import load_file

        root = Path(folder)
        try:
            about = json.loads((root / "embeddings.json").read_text())
            texts = load_file(root / "tokens.safetensors")
            piece = json.loads((root / "pieces.json").read_text())
            layers = []
            for k, (name, said) in enumerate(about["numbers"].items()):
                a = load_file(root / f"layer-{k:02d}.safetensors")
                more: dict[str, Any] = {"importance": a.get(IMPORTANCE), "autoencoder": said.get("autoencoder")}
                features = Features(**{f: a[f] for f in FEATURES})
                more |= {f: a[f] for f in (*ARRAYS, *SIMILAR)}
                layers.append(Layer(name, features=features, **more))
        except Exception as reason:
            raise CorruptError(
                f"{root} holds no embeddings that can be read",
                why=f"{type(reason).__name__}: {reason}".splitlines()[0],
            ) from None
        kept = {k: v for k, v in about.items() if k not in ("schema", "numbers")}
        return cls(kept, layers, texts["token"], piece, texts["start"])

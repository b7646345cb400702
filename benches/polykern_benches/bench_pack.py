"""Pre-activations to packed codes, and back."""

from collections.abc import Sequence
from functools import partial

import torch

from polykern_benches._harness import Case, Setting, codes, main, same
from polykern_kernels import pack

CHECKED = 8  # rows the reference repeats


def cases(setting: Setting) -> list[Case]:
    """A layer of a language model in each format, two thresholds, unpacking, joining."""
    rows, units = setting.pick((16384, 3072), (9, 100))
    x = torch.randn((rows, units), generator=torch.Generator().manual_seed(0)).to(setting.device)
    words = codes(rows, units // 32, device=setting.device)
    return [
        *(_signs(x.to(dtype), [0.0]) for dtype in (torch.bfloat16, torch.float32, torch.float64)),
        _signs(x, [0.0, 6.0]),
        _unpack(words),
        _join(words),
    ]


def _signs(x: torch.Tensor, thresholds: list[float]) -> Case:
    rows, units = x.shape
    return Case(
        operation="pack.signs",
        shape={"rows": rows, "units": units, "thresholds": len(thresholds)},
        dtype=str(x.dtype).removeprefix("torch."),
        cost=pack.cost(rows, units, x.element_size(), len(thresholds)),
        ways=pack.IMPLS["signs"],
        inputs=(x,),
        run=lambda backend: pack.signs(x, thresholds, backend=backend),
        holds=lambda got: same(
            [y[:CHECKED] for y in got], pack.signs(x[:CHECKED], thresholds, backend="reference")
        ),
    )


def _unpack(words: torch.Tensor) -> Case:
    rows, bits = len(words), 32 * words.shape[1]
    return Case(
        operation="pack.unpack",
        shape={"rows": rows, "bits": bits},
        dtype="int32",
        cost=pack.cost_unpack(rows, bits),
        ways=pack.IMPLS["unpack"],
        inputs=(words,),
        run=lambda backend: pack.unpack(words, bits, backend=backend),
        holds=lambda got: same(got[:CHECKED], pack.unpack(words[:CHECKED], bits, backend="reference")),
    )


def _join(words: torch.Tensor) -> Case:
    rows, bits = len(words), 32 * words.shape[1]
    short = words & torch.tensor(
        0x7FFFFFFF, dtype=torch.int32
    )  # the last bit of every word, and so of the row, is 0
    fields = [bits - 1, bits]
    join = partial(pack.join, bits=fields)
    return Case(
        operation="pack.join",
        shape={"rows": rows, "bits": sum(fields)},
        dtype="int32",
        cost=pack.cost_join(rows, fields),
        ways=pack.IMPLS["join"],
        inputs=(short, words),
        run=lambda backend: join([short, words], backend=backend),
        holds=lambda got: same(got[:CHECKED], join([short[:CHECKED], words[:CHECKED]], backend="reference")),
    )


def bench(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    main({"pack": cases}, argv)


if __name__ == "__main__":
    bench()

"""Pre-activations to packed codes, and back."""

from functools import partial

import torch

from polykern_benches._harness import Case, Setting, Trial, codes, same
from polykern_kernels import pack

CHECKED = 8  # rows the reference repeats
MANY = 65536  # rows of a batch on a GPU


def cases(setting: Setting) -> list[Case]:
    """A layer of a language model in each format, of many rows, two thresholds, unpacking, joining."""
    rows, units = setting.pick((16384, 3072), (9, 100))
    return [
        *(_signs(setting, rows, units, dtype, [0.0]) for dtype in (torch.bfloat16, torch.float32, torch.float64)),
        layer(setting),
        _signs(setting, rows, units, torch.float32, [0.0, 6.0]),
        _unpack(setting, rows, units // 32),
        _join(setting, rows, units // 32),
    ]


def layer(setting: Setting) -> Case:
    """Signs of the bfloat16 activations of many rows."""
    rows, units = setting.pick((MANY, 3072), (65, 100))
    return _signs(setting, rows, units, torch.bfloat16, [0.0], heavy=setting.device == "cpu")


def _signs(
    setting: Setting, rows: int, units: int, dtype: torch.dtype, thresholds: list[float], *, heavy: bool = False
) -> Case:
    def setup() -> Trial:
        rng = torch.Generator(setting.device).manual_seed(0)
        x = torch.randn((rows, units), generator=rng, device=setting.device).to(dtype)
        return Trial(
            inputs=(x,),
            run=lambda backend: pack.signs(x, thresholds, backend=backend),
            holds=lambda got: same(
                [y[:CHECKED] for y in got], pack.signs(x[:CHECKED], thresholds, backend="reference")
            ),
        )

    return Case(
        operation="pack.signs",
        params={"rows": rows, "units": units, "thresholds": len(thresholds)},
        dtype=str(dtype).removeprefix("torch."),
        cost=pack.cost(rows, units, dtype.itemsize, len(thresholds)),
        ways=pack.IMPLS["signs"],
        setup=setup,
        memory=rows * units * (4 + dtype.itemsize),
        heavy=heavy,
    )


def _unpack(setting: Setting, rows: int, size: int) -> Case:
    bits = 32 * size

    def setup() -> Trial:
        words = codes(rows, size, device=setting.device)
        return Trial(
            inputs=(words,),
            run=lambda backend: pack.unpack(words, bits, backend=backend),
            holds=lambda got: same(got[:CHECKED], pack.unpack(words[:CHECKED], bits, backend="reference")),
        )

    return Case(
        operation="pack.unpack",
        params={"rows": rows, "bits": bits},
        dtype="int32",
        cost=pack.cost_unpack(rows, bits),
        ways=pack.IMPLS["unpack"],
        setup=setup,
    )


def _join(setting: Setting, rows: int, size: int) -> Case:
    bits = 32 * size
    fields = [bits - 1, bits]
    join = partial(pack.join, bits=fields)

    def setup() -> Trial:
        words = codes(rows, size, device=setting.device)
        short = words & 0x7FFFFFFF  # the last bit of every word, and so of the row, is 0
        few = [short[:CHECKED], words[:CHECKED]]
        return Trial(
            inputs=(short, words),
            run=lambda backend: join([short, words], backend=backend),
            holds=lambda got: same(got[:CHECKED], join(few, backend="reference")),
        )

    return Case(
        operation="pack.join",
        params={"rows": rows, "bits": sum(fields)},
        dtype="int32",
        cost=pack.cost_join(rows, fields),
        ways=pack.IMPLS["join"],
        setup=setup,
    )

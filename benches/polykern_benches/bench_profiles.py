"""Counts of bits by group, and sums against them."""

import torch
from torch import Tensor

from polykern_benches._harness import Case, Setting, Trial, codes, same
from polykern_kernels import profiles
from polykern_kernels._bits import WORD_BITS

CHECKED = 2  # groups the reference repeats


def cases(setting: Setting) -> list[Case]:
    """Codes of 3,072 and of 36,864 bits in groups of 1,000, in random order."""
    many = 1 << 21 if setting.device == "cuda" else 1 << 17
    sizes = setting.pick([(many, 96), (many // 12, 1152)], [(40, 3)])
    each = setting.pick(1000, 7)
    return [
        case for n, words in sizes for case in (_counts(setting, n, words, each), _sums(setting, n, words, each))
    ]


def _grouped(setting: Setting, n: int, words: int, each: int) -> tuple[Tensor, Tensor, Tensor]:
    rows = torch.randperm(n, generator=torch.Generator().manual_seed(0)).to(setting.device)
    starts = torch.tensor([*range(0, n, each), n], device=setting.device)
    return codes(n, words, device=setting.device), rows, starts


def _counts(setting: Setting, n: int, words: int, each: int) -> Case:
    bits, groups = WORD_BITS * words, -(-n // each)

    def setup() -> Trial:
        packed, rows, starts = _grouped(setting, n, words, each)
        few = starts[: CHECKED + 1]
        some = rows[: int(few[-1])]
        return Trial(
            inputs=(packed, rows, starts),
            run=lambda backend: profiles.counts(packed, rows, starts, bits, backend=backend),
            holds=lambda got: same(got[:CHECKED], profiles.counts(packed, some, few, bits, backend="reference")),
        )

    return Case(
        operation="profiles.counts",
        params={"n": n, "words": words, "groups": groups},
        dtype="int32",
        cost=profiles.cost_counts(n, groups, bits),
        ways=profiles.IMPLS["counts"],
        setup=setup,
    )


def _sums(setting: Setting, n: int, words: int, each: int) -> Case:
    bits, groups = WORD_BITS * words, -(-n // each)

    def setup() -> Trial:
        packed, rows, starts = _grouped(setting, n, words, each)
        weights = starts.diff().to(torch.int32)[:, None] - 2 * profiles.counts(packed, rows, starts, bits)
        few = starts[: CHECKED + 1]
        some = rows[: int(few[-1])]

        def holds(got: Tensor) -> bool:
            return same(got[: len(some)], profiles.sums(packed, some, few, weights[:CHECKED], backend="reference"))

        return Trial(
            inputs=(packed, rows, starts, weights),
            run=lambda backend: profiles.sums(packed, rows, starts, weights, backend=backend),
            holds=holds,
        )

    return Case(
        operation="profiles.sums",
        params={"n": n, "words": words, "groups": groups},
        dtype="int32",
        cost=profiles.cost_sums(n, groups, bits),
        ways=profiles.IMPLS["sums"],
        setup=setup,
    )

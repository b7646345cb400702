"""Nearest codes among themselves: time against their number, and against their bits."""

import torch
from torch import Tensor

from polykern_benches._harness import Case, Setting, Trial, codes, same
from polykern_kernels import neighbours

K, CHECKED = 15, 4  # neighbours; rows the reference repeats
WORDS = 96  # of a code, where the number of codes grows


def cases(setting: Setting) -> list[Case]:
    """Up to 16,000 codes of 3,072 bits (on a GPU 256,000), and codes of 768 to 36,864 bits."""
    most = 256_000 if setting.device == "cuda" else 16_000
    sizes = [(most // part, WORDS) for part in (8, 4, 2, 1)]
    sizes += [(most // 4, words) for words in (24, 384, 1152)]
    return [_nearest(setting, *size) for size in setting.pick(sizes, [(30, 2), (60, 2), (30, 4)])]


def _nearest(setting: Setting, n: int, words: int) -> Case:
    k = setting.pick(K, 3)

    def setup() -> Trial:
        x = codes(n, words, device=setting.device)

        def holds(got: tuple[Tensor, ...]) -> bool:
            host, own = x.cpu(), torch.arange(n - CHECKED, n)
            want = neighbours.nearest(host[own], host, k, skip=own, backend="reference")
            return same([y[-CHECKED:] for y in got], want)

        return Trial((x,), lambda backend: neighbours.self_nearest(x, k, backend=backend), holds)

    return Case(
        operation="neighbours.scaling",
        params={"n": n, "bits": 32 * words, "k": k},
        dtype="int32",
        cost=neighbours.cost_self(n, words, k),
        ways=neighbours.IMPLS["self_nearest"],
        setup=setup,
    )

"""Hamming distances of all pairs, of aligned rows, of neighbouring pixels."""

from torch import Tensor

from polykern_benches._harness import Case, Setting, Trial, codes, same
from polykern_benches.peers import pairwise
from polykern_kernels import hamming

CHECKED = 16  # rows the reference repeats
SIZES = [(4096, 96), (20000, 96)]  # codes and words; the distances of the second are 1.6 GB
AT_ONCE = 1 << 14  # codes that need not be asked for
PEERS = tuple(peer for peer in pairwise.PEERS if peer.name != "numkong-symmetric")  # half of the pairs


def cases(setting: Setting) -> list[Case]:
    """Codes of 3072 bits among each other, and a raster of codes of 25,088 bits."""
    gpu = setting.device == "cuda"
    return [
        *(_pairwise(setting, *size) for size in setting.pick([(16384, 96)] if gpu else SIZES, [(9, 3)])),
        _aligned(setting, *setting.pick((1 << 20, 96) if gpu else (1 << 17, 96), (9, 3))),
        _neighbours(setting, *setting.pick((512, 784) if gpu else (192, 784), (9, 3))),
    ]


def _pairwise(setting: Setting, n: int, words: int) -> Case:
    def setup() -> Trial:
        a, b = (codes(n, words, device=setting.device, seed=seed) for seed in (0, 1))
        return Trial(
            inputs=(a, b),
            run=lambda backend: hamming.pairwise(a, b, backend=backend),
            holds=lambda got: same(
                got[-CHECKED:, -CHECKED:], hamming.pairwise(a[-CHECKED:], b[-CHECKED:], backend="reference")
            ),
            beside=lambda peer: peer(a, b),
        )

    return Case(
        operation="hamming.pairwise",
        params={"n": n, "m": n, "words": words},
        dtype="int32",
        cost=hamming.cost(n, n, words),
        ways=hamming.IMPLS["pairwise"],
        setup=setup,
        peers=PEERS,
        memory=4 * n * n * 3 + 64 * n * words,  # ours, and a peer's with what it is made of
        heavy=n > AT_ONCE,
    )


def _aligned(setting: Setting, n: int, words: int) -> Case:
    def setup() -> Trial:
        a, b = (codes(n, words, device=setting.device, seed=seed) for seed in (0, 1))
        return Trial(
            inputs=(a, b),
            run=lambda backend: hamming.aligned(a, b, backend=backend),
            holds=lambda got: same(
                got[-CHECKED:], hamming.aligned(a[-CHECKED:], b[-CHECKED:], backend="reference")
            ),
        )

    return Case(
        operation="hamming.aligned",
        params={"n": n, "words": words},
        dtype="int32",
        cost=hamming.cost_aligned(n, words),
        ways=hamming.IMPLS["aligned"],
        setup=setup,
    )


def _neighbours(setting: Setting, side: int, words: int) -> Case:
    def setup() -> Trial:
        raster = codes(side, side, words, device=setting.device)
        corner = raster[:CHECKED, :CHECKED]

        def holds(got: tuple[Tensor, Tensor]) -> bool:
            right, down = hamming.neighbours(corner, backend="reference")
            across, along = right.shape[1], down.shape[0]
            return same((got[0][:CHECKED, :across], got[1][:along, :CHECKED]), (right, down))

        return Trial((raster,), lambda backend: hamming.neighbours(raster, backend=backend), holds)

    return Case(
        operation="hamming.neighbours",
        params={"height": side, "width": side, "words": words},
        dtype="int32",
        cost=hamming.cost_neighbours(side, side, words),
        ways=hamming.IMPLS["neighbours"],
        setup=setup,
    )

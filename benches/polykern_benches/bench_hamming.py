"""Hamming distances of all pairs, of aligned rows, of neighbouring pixels."""

from collections.abc import Sequence

from torch import Tensor

from polykern_benches._harness import Case, Setting, codes, main, same
from polykern_kernels import hamming

CHECKED = 16  # rows the reference repeats


def cases(setting: Setting) -> list[Case]:
    """Codes of 3072 bits among each other, and a raster of codes of 25,088 bits."""
    gpu = setting.device == "cuda"
    return [
        _pairwise(setting, *setting.pick((16384, 96) if gpu else (4096, 96), (9, 3))),
        _aligned(setting, *setting.pick((1 << 20, 96) if gpu else (1 << 17, 96), (9, 3))),
        _neighbours(setting, *setting.pick((512, 784) if gpu else (192, 784), (9, 3))),
    ]


def _pairwise(setting: Setting, n: int, words: int) -> Case:
    a, b = (codes(n, words, device=setting.device, seed=seed) for seed in (0, 1))
    return Case(
        operation="hamming.pairwise",
        shape={"n": n, "m": n, "words": words},
        dtype="int32",
        cost=hamming.cost(n, n, words),
        ways=hamming.IMPLS["pairwise"],
        inputs=(a, b),
        run=lambda backend: hamming.pairwise(a, b, backend=backend),
        holds=lambda got: same(
            got[-CHECKED:, -CHECKED:], hamming.pairwise(a[-CHECKED:], b[-CHECKED:], backend="reference")
        ),
    )


def _aligned(setting: Setting, n: int, words: int) -> Case:
    a, b = (codes(n, words, device=setting.device, seed=seed) for seed in (0, 1))
    return Case(
        operation="hamming.aligned",
        shape={"n": n, "words": words},
        dtype="int32",
        cost=hamming.cost_aligned(n, words),
        ways=hamming.IMPLS["aligned"],
        inputs=(a, b),
        run=lambda backend: hamming.aligned(a, b, backend=backend),
        holds=lambda got: same(got[-CHECKED:], hamming.aligned(a[-CHECKED:], b[-CHECKED:], backend="reference")),
    )


def _neighbours(setting: Setting, side: int, words: int) -> Case:
    raster = codes(side, side, words, device=setting.device)
    corner = raster[:CHECKED, :CHECKED]

    def holds(got: tuple[Tensor, Tensor]) -> bool:
        right, down = hamming.neighbours(corner, backend="reference")
        across, along = right.shape[1], down.shape[0]
        return same((got[0][:CHECKED, :across], got[1][:along, :CHECKED]), (right, down))

    return Case(
        operation="hamming.neighbours",
        shape={"height": side, "width": side, "words": words},
        dtype="int32",
        cost=hamming.cost_neighbours(side, side, words),
        ways=hamming.IMPLS["neighbours"],
        inputs=(raster,),
        run=lambda backend: hamming.neighbours(raster, backend=backend),
        holds=holds,
    )


def bench(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    main({"hamming": cases}, argv)


if __name__ == "__main__":
    bench()

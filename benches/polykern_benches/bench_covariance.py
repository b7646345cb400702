"""Mean and covariance of a layer's activations, streamed, beside plain float64 torch."""

from functools import partial

import torch
from torch import Tensor

from polykern_benches._harness import Case, Setting, Trial
from polykern_benches.peers import products
from polykern_kernels import covariance

CHUNK = 1 << 14  # rows that are there at once; a longer stream meets them again
CHECKED = 8  # columns that are computed again in float64
CLOSE = 1e-3  # of two deviations: far above the error of any backend, far below that of a wrong column


def cases(setting: Setting) -> list[Case]:
    """The neurons of a large layer over a million tokens on a GPU, of a small one over a chunk on the CPU."""
    return [stream(setting)]


def stream(setting: Setting) -> Case:
    """bfloat16 on a GPU, float32 on the CPU."""
    gpu = setting.device == "cuda"
    rows, d = setting.pick((1 << 20, 12288) if gpu else (CHUNK, 2048), (40, 24))
    return _add(setting, rows, d, torch.bfloat16 if gpu else torch.float32)


def _add(setting: Setting, rows: int, d: int, dtype: torch.dtype) -> Case:
    kind = str(dtype).removeprefix("torch.")

    def setup() -> Trial:
        rng = torch.Generator(setting.device).manual_seed(0)
        chunk = torch.randn((min(rows, CHUNK), d), generator=rng, device=setting.device)
        chunk = (chunk + 3).to(dtype)

        def run(backend: str) -> tuple[Tensor, Tensor]:
            state = covariance.start(d, setting.device)
            for _ in range(rows // len(chunk)):
                covariance.add(state, chunk, backend=backend)
            return covariance.read(state)

        def holds(got: tuple[Tensor, Tensor]) -> bool:
            x = chunk.double()
            some = x[:, -CHECKED:] - x[:, -CHECKED:].mean(0)
            want = some.T @ (x - x.mean(0)) / len(x)
            return bool(((got[1][-CHECKED:] - want).abs() <= CLOSE).all())

        beside = partial(products.scaled, chunk, rows, device=setting.device)
        return Trial(inputs=(chunk,), run=run, holds=holds, beside=beside)

    return Case(
        operation="covariance.add",
        params={"rows": rows, "d": d},
        dtype=kind,
        cost=covariance.cost(rows, d, dtype.itemsize),
        ways=covariance.IMPLS,
        setup=setup,
        peers=(products.COVARIANCE,),
        memory=CHUNK * d * (2 * dtype.itemsize + 16) + 40 * d * d,  # the peer's rows in float64, twice
        precision=kind,
    )

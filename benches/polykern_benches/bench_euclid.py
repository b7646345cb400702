"""Exact nearest neighbours of float rows, and nearest foreign ones."""

from typing import Any

import torch
from torch import Tensor

from polykern_benches._harness import Case, Setting, Trial, same
from polykern_kernels import euclid

K = 15
CHECKED = 4  # rows that all distances are computed of


def cases(setting: Setting) -> list[Case]:
    """Rows of 768 columns around a few centres; an eighth of them ask for other components."""
    n = setting.pick(65536 if setting.device == "cuda" else 10000, 60)
    columns, k = setting.pick((768, K), (9, 3))
    return [_nearest(setting, n, columns, k), _foreign(setting, n, columns)]


def _rows(setting: Setting, n: int, columns: int) -> euclid.Rows:
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn((20, columns), generator=rng)
    x = centres[torch.randint(0, 20, (n,), generator=rng)] + 0.5 * torch.randn((n, columns), generator=rng)
    return euclid.prepare(x.to(setting.device))


def _ways(setting: Setting, operation: str) -> list[Any]:
    meant = "torch" if setting.device == "cuda" else "cpu"
    return [way for way in euclid.IMPLS[operation] if way.name == meant]


def _nearest(setting: Setting, n: int, columns: int, k: int) -> Case:
    def setup() -> Trial:
        rows = _rows(setting, n, columns)

        def holds(got: tuple[Tensor, Tensor]) -> bool:
            everyone = torch.arange(n, device=rows.x.device)
            for i in range(CHECKED):
                d = euclid.distances(rows.x, torch.full_like(everyone, i), everyone)
                d[i] = torch.inf
                first = d.sort(dim=0, stable=True)
                if not same((got[0][i], got[1][i]), (first.values[:k], first.indices[:k])):
                    return False
            return True

        return Trial((rows.x,), lambda backend: euclid.nearest(rows, k, backend=backend), holds)

    return Case(
        operation="euclid.nearest",
        params={"n": n, "columns": columns, "k": k},
        dtype="float32",
        cost=euclid.cost(n, columns, k),
        ways=_ways(setting, "nearest"),
        setup=setup,
        precision="float32",
    )


def _foreign(setting: Setting, n: int, columns: int) -> Case:
    asked = len(range(0, n, 8))

    def setup() -> Trial:
        rows = _rows(setting, n, columns)
        device = rows.x.device
        asking, components = torch.arange(0, n, 8, device=device), torch.arange(n, device=device) % 10
        cores = torch.zeros(n, dtype=torch.float64, device=device)
        few = asking[:CHECKED]
        return Trial(
            inputs=(rows.x,),
            run=lambda backend: euclid.foreign(rows, asking, cores, components, backend=backend),
            holds=lambda got: same(
                (got[0][:CHECKED], got[1][:CHECKED]),
                euclid.foreign(rows, few, cores, components, backend="reference"),
            ),
        )

    return Case(
        operation="euclid.foreign",
        params={"asking": asked, "n": n, "columns": columns},
        dtype="float32",
        cost=euclid.cost_foreign(asked, n, columns),
        ways=_ways(setting, "foreign"),
        setup=setup,
        precision="float32",
    )

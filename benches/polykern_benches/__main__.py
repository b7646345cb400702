"""Every bench of this folder, into benches/results/DEVICE.json."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import torch

from polykern_benches._harness import main

HERE = Path(__file__).parent


def bench(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    names = [path.stem.removeprefix("bench_") for path in sorted(HERE.glob("bench_*.py"))]
    found = {name: import_module(f"polykern_benches.bench_{name}") for name in names}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kernels = {name: module.cases for name, module in found.items() if hasattr(module, "cases")}
    main(kernels, argv, str(HERE.parent / "results" / f"{device}.json"))


if __name__ == "__main__":
    bench()

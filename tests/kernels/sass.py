"""Compiles every Triton kernel ahead of time and reads the machine code; no GPU needed.

python -m tests.kernels.sass    prints one JSON object: "kernel-variant/sm_90" -> what `Machine` says

A process of its own, because Triton must be imported without TRITON_INTERPRET.
"""

import collections
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from tests.kernels.builds import BUILDS, Build


@dataclasses.dataclass(frozen=True)
class Machine:
    """Machine code of one build.

    opcodes    opcode -> how often
    modified   opcode with its modifiers -> how often
    loops      the same as `opcodes`, of each innermost loop, the longest first
    loop       instructions of the longest loop, inner ones among them; all where there is none
    stack      bytes of stack
    local      bytes of local memory
    registers  of a thread
    shared     bytes of shared memory
    """

    opcodes: dict[str, int]
    modified: dict[str, int]
    loops: list[dict[str, int]]
    loop: int
    stack: int
    local: int
    registers: int
    shared: int


def compiled(build: Build, architecture: int, folder: Path) -> Machine:
    """The machine code of a build."""
    import importlib

    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    module = importlib.import_module(f"polykern_kernels.device.{build.family}")
    kernel = getattr(module, build.kernel)
    constants = {**build.constants, **{name: getattr(module, name) for name in build.launched}}
    known = {**build.types, **dict.fromkeys(constants, "constexpr")}
    signature = {name: known.get(name, "i32") for name in kernel.arg_names}
    multiples = {*build.multiples, *(n for n in kernel.arg_names if n.endswith("_ptr"))}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(kernel.arg_names) if n in multiples}
    source = (GluonASTSource if build.gluon else ASTSource)(
        kernel, signature=signature, constexprs=constants, attrs=aligned
    )
    options = {"num_warps": 4, **getattr(module, "OPTIONS", {}), **build.options}
    with warnings.catch_warnings(action="error"):  # as in a test on a device
        made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(made.asm["cubin"])
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    usage = _output(tools / "cuobjdump", "-res-usage", cubin)
    sass = _output(tools / "nvdisasm", "-c", "-ndf", cubin)  # no analysis of data flow: a quarter of its time
    found = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    modified, loops, longest = _read(sass)
    return Machine(
        _plain(modified),
        modified,
        loops,
        longest,
        found["STACK"],
        found["LOCAL"],
        found["REG"],
        made.metadata.shared,
    )


def _plain(modified: dict[str, int]) -> dict[str, int]:
    """Opcodes without their modifiers."""
    counts: collections.Counter[str] = collections.Counter()
    for name, count in modified.items():
        counts[name.split(".")[0]] += count
    return dict(counts)


def _read(sass: str) -> tuple[dict[str, int], list[dict[str, int]], int]:
    """Opcodes with modifiers of all instructions; opcodes of the innermost loops; instructions of the longest loop.

    A loop is what stands between a label and a branch back to it.
    """
    instruction = re.compile(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z0-9_.]+)(.*)")
    names: list[str] = []
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    for line in sass.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(names)
        if found := instruction.search(line):
            names.append(found[1])
            target = re.search(r"\.L_x_\d+", found[2]) if found[1].startswith("BRA") else None
            if target and target[0] in labels:
                loops.append((labels[target[0]], len(names)))
    inner = [x for x in loops if not any(x[0] <= y[0] and y[1] <= x[1] for y in loops if y != x)]
    inner.sort(key=lambda x: x[0] - x[1])
    longest = max((b - a for a, b in loops), default=0)
    counted = [_plain(dict(collections.Counter(names[a:b]))) for a, b in inner]
    # a program ends with a branch to itself
    return dict(collections.Counter(names)), counted, longest if longest > 1 else len(names)


def _output(*command: object) -> str:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Every build for every architecture, as JSON."""
    with tempfile.TemporaryDirectory() as name:
        machines = {
            f"{build.name}/sm_{architecture}": dataclasses.asdict(compiled(build, architecture, Path(name)))
            for build in BUILDS
            for architecture in build.architectures
        }
    json.dump(machines, sys.stdout)


if __name__ == "__main__":
    main()

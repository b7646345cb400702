"""Compiles every Triton kernel ahead of time and reads the machine code; no GPU needed.

python tests/kernels/sass.py    prints one JSON object: "kernel-variant/sm_90" -> what `Machine` says

A process of its own, because Triton must be imported without TRITON_INTERPRET.
"""

import collections
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ARCHITECTURES = (80, 90, 100)


@dataclasses.dataclass(frozen=True)
class Build:
    """One kernel with its constants.

    family     stem of the device module
    kernel     name of the jitted function
    types      pointer parameter -> type; every other run-time parameter is an int32
    constants  constexpr parameters; an integer 1 is one too, as a launch makes it
    launched   constexpr parameters whose value is the device module's constant of the same name
    options    what the launcher passes to the compiler, beside the device module's OPTIONS
    popcount   whether its work is popcounts
    multiples  run-time integers that a launch finds to be multiples of 16
    budget     instructions a pass of its longest loop may take, or all of them where there is none, before it
               waits for them and not for memory; such a kernel loads 16 bytes at a time
    least      the least architecture that it is launched on
    """

    family: str
    kernel: str
    variant: str
    types: dict[str, str]
    constants: dict[str, Any]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    launched: tuple[str, ...] = ()
    popcount: bool = False
    multiples: tuple[str, ...] = ()
    budget: int = 0
    least: int = 80

    @property
    def name(self) -> str:
        return f"{self.kernel}-{self.variant}"


@dataclasses.dataclass(frozen=True)
class Machine:
    """Machine code of one build.

    opcodes    opcode -> how often
    modified   opcode with its modifiers -> how often
    loop       instructions of the longest loop; all where there is none
    stack      bytes of stack
    local      bytes of local memory
    registers  of a thread
    """

    opcodes: dict[str, int]
    modified: dict[str, int]
    loop: int
    stack: int
    local: int
    registers: int


def _signs(element: str, kinks: int, each: bool, aligned: bool) -> Build:
    wide = "*fp32" if element in ("fp16", "bf16") else f"*{element}"
    types = {"x_ptr": f"*{element}", "floor_ptr": wide, "words_ptr": "*i32", "ones_ptr": "*i32", "nans_ptr": "*i64"}
    constants = {"KINKS": kinks, "EACH": each, "ALIGNED": aligned, "ALONE": aligned}
    variant = f"{element}-{kinks}{'each' if each else ''}{'' if aligned else '-split'}"
    launched = ("BLOCK_R", "BLOCK_W")
    # a processor issues 128 instructions of threads a clock, and its share of 4.3 TB/s is 16.5 bytes: 8 for each;
    # a pass reads 16 elements a thread and writes a bit for each and each threshold
    moved = 16 * {"bf16": 2, "fp32": 4, "fp64": 8}[element] + 2 * kinks
    multiples, budget = (("UNITS", "WORDS", "SPAN"), 8 * moved) if aligned else ((), 0)
    return Build("pack", "pack_signs_kernel", variant, types, constants, {}, launched, True, multiples, budget)


def _grid(element: str, kinks: int, activate: bool) -> Build:
    real = f"*{element}"
    types = {
        "anchor_ptr": real,
        "delta_ptr": "*fp32" if activate else real,
        "out_ptr": "*fp32" if activate else real,
        "kinks_ptr": real,
        "tilts_ptr": real,
        "margin_ptr": "*i32",
        "nans_ptr": "*i64",
        "words_ptr": "*i32",
    }
    constants = {"KINKS": kinks, "ACTIVATE": activate}
    launched = ("BLOCK_P", "BLOCK_U", "CHUNK_U")
    variant = f"{element}-{kinks}-{'step' if activate else 'tally'}"
    return Build("grid", "grid_step_kernel", variant, types, constants, {}, launched)


def _program(kernel: str, pixels: int, warps: int) -> Build:
    types = {
        **dict.fromkeys(("tolerance_ptr", "coefficient_ptr", "base_margin_ptr", "scratch_ptr"), "*fp64"),
        **dict.fromkeys(("first_ptr", "key_ptr", "start_ptr", "base_digest_ptr"), "*i64"),
        **dict.fromkeys(("digest_ptr", "uncertain_ptr"), "*i64"),
        **dict.fromkeys(("target_ptr", "field_ptr", "term_ptr", "symbols_ptr", "scale_ptr"), "*i32"),
        **dict.fromkeys(("base_winner_ptr", "classes_ptr", "right_ptr", "down_ptr"), "*i32"),
        **{"margin_ptr": "*fp32", "kind_ptr": "*i8", "signs_ptr": "*u8"},
    }
    return Build("program", kernel, str(pixels), types, {"PIX": pixels}, {"num_warps": warps})


def _neighbours(kernel: str, jaccard: bool) -> Build:
    real = "*fp64" if jaccard else "*i32"
    types = {
        **dict.fromkeys(("a_ptr", "b_ptr", "a_ones_ptr", "b_ones_ptr"), "*i32"),
        **{"skip_ptr": "*i64", "chosen_ptr": "*i64", "radii_ptr": real},
        "out_ptr": "*i64" if "within" in kernel else real,
    }
    launched = ("BLOCK_M", "BLOCK_W") if "rescan" in kernel else ("BLOCK_N", "BLOCK_M")
    variant = "jaccard" if jaccard else "hamming"
    return Build("neighbours", kernel, variant, types, {"JACCARD": jaccard}, {}, launched, popcount=True)


def _foreign(jaccard: bool) -> Build:
    real = "*fp64" if jaccard else "*i32"
    types = {
        **dict.fromkeys(("a_ptr", "b_ptr", "a_ones_ptr", "b_ones_ptr", "b_name_ptr", "point_ptr"), "*i32"),
        **dict.fromkeys(("a_component_ptr", "b_component_ptr"), "*i32"),
        **dict.fromkeys(("a_core_ptr", "b_core_ptr", "near_ptr", "bound_ptr", "weight_ptr"), real),
    }
    variant, launched = "jaccard" if jaccard else "hamming", ("BLOCK_N", "BLOCK_M")
    options = {"num_warps": 8}
    name = "foreign_nearest_kernel"
    return Build("foreign", name, variant, types, {"JACCARD": jaccard}, options, launched, popcount=True)


def _profiles(kernel: str, launched: tuple[str, ...], variant: str, **ones: int) -> Build:
    types = {
        **dict.fromkeys(("rows_ptr", "edges_ptr", "group_ptr"), "*i64"),
        **dict.fromkeys(("words_ptr", "weights_ptr"), "*i32"),
        "out_ptr": "*i64" if "sums" in kernel else "*i32",
    }
    return Build("profiles", kernel, variant, types, ones, launched=launched)


def _covariance(element: str, large: bool, multiples: tuple[str, ...]) -> Build:
    types = {"x_ptr": f"*{element}", "products_ptr": "*fp64"}
    constants = {"BLOCK_I": 128, "BLOCK_J": 256 if large else 128, "BLOCK_R": 64 if large else 32}
    variant = f"{element}-{'large' if large else 'small'}"
    options = {"num_warps": 8, "num_stages": 3}
    name = "covariance_products_kernel"
    least = 90 if large else 80
    return Build("covariance", name, variant, types, constants, options, ("GROUP",), False, multiples, least=least)


_CODES = {"a_ptr": "*i32", "b_ptr": "*i32", "out_ptr": "*i32"}
_RASTER = {"words_ptr": "*i32", "right_ptr": "*i32", "down_ptr": "*i32"}

BUILDS = (
    Build("hamming", "hamming_pairwise_kernel", "64x64", _CODES, {"BLOCK_N": 64, "BLOCK_M": 64}, popcount=True),
    Build("hamming", "hamming_aligned_kernel", "16x64", _CODES, {"BLOCK_N": 16, "BLOCK_W": 64}, popcount=True),
    *(
        Build(
            "hamming",
            "hamming_neighbours_kernel",
            variant,
            _RASTER,
            {"ADD": add, "BLOCK_X": 16, "BLOCK_W": 64, **ones},
            popcount=True,
        )
        for variant, add, ones in (
            ("write", False, {}),
            ("add", True, {}),
            ("one-column", True, {"WIDTH": 1, "WORDS": 1}),
        )
    ),
    *(_foreign(jaccard) for jaccard in (False, True)),
    Build("digest", "digest_keys_kernel", "512", {"out_ptr": "*i64"}, {"BLOCK": 512}),
    *(
        Build(
            "digest",
            "digest_fingerprints_kernel",
            variant,
            {"words_ptr": "*i32", "out_ptr": "*i64"},
            ones,
            launched=("BLOCK_R", "BLOCK_W", "CHUNK_W"),
        )
        for variant, ones in (("any-bit", {}), ("second-bit", {"OFFSET": 1, "WORDS": 1, "ROWS": 1}))
    ),
    *(_signs(element, 1, False, True) for element in ("bf16", "fp32", "fp64")),
    _signs("bf16", 2, False, True),
    _signs("fp32", 2, True, False),
    Build("pack", "pack_unpack_kernel", "1024", {"words_ptr": "*i32", "out_ptr": "*u8"}, {"BLOCK": 1024}),
    Build(
        "pack",
        "pack_transpose_kernel",
        "8x16",
        {"words_ptr": "*i32", "out_ptr": "*i32"},
        {"BLOCK_R": 8, "BLOCK_W": 16},
        multiples=("WORDS", "SIZE"),
        budget=8 * 2 * 32 * 4,  # 32 words a thread, read and written
    ),
    Build("pack", "pack_place_kernel", "256", {"part_ptr": "*i32", "out_ptr": "*i32"}, {"BLOCK": 256}),
    _grid("fp32", 1, True),
    *(_grid("fp64", *case) for case in ((1, True), (2, True), (2, False))),
    *(
        _neighbours(f"neighbours_{kernel}_kernel", jaccard)
        for kernel in ("minima", "rescan", "within")
        for jaccard in (False, True)
    ),
    *(
        _profiles(kernel, launched, variant, **ones)
        for kernel, launched in (
            ("profiles_counts_kernel", ("BLOCK_R", "BLOCK_W")),
            ("profiles_sums_kernel", ("SUMMED", "SUM_W")),
        )
        for variant, ones in (("any", {}), ("one-bit", {"WORDS": 1, "BITS": 1}))
    ),
    _covariance("bf16", True, ("COLUMNS", "D")),
    _covariance("fp16", False, ("COLUMNS",)),
    *(_program(*kernel) for kernel in (("program_run_kernel", 64, 1), ("program_count_kernel", 256, 4))),
)


def compiled(build: Build, architecture: int, folder: Path) -> Machine:
    """The machine code of a build."""
    import importlib

    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module = importlib.import_module(f"polykern_kernels.device.{build.family}")
    kernel = getattr(module, build.kernel)
    constants = {**build.constants, **{name: getattr(module, name) for name in build.launched}}
    known = {**build.types, **dict.fromkeys(constants, "constexpr")}
    signature = {name: known.get(name, "i32") for name in kernel.arg_names}
    known_multiples = {*build.types, *build.multiples}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(kernel.arg_names) if n in known_multiples}
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=aligned)
    made = triton.compile(
        source,
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": 4, **getattr(module, "OPTIONS", {}), **build.options},
    )
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(made.asm["cubin"])
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    usage = _output(tools / "cuobjdump", "-res-usage", cubin)
    sass = _output(tools / "nvdisasm", "-c", cubin)
    found = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    modified, loop = instructions(sass)
    opcodes: collections.Counter[str] = collections.Counter()
    for name, count in modified.items():
        opcodes[name.split(".")[0]] += count
    return Machine(dict(opcodes), modified, loop, found["STACK"], found["LOCAL"], found["REG"])


def instructions(sass: str) -> tuple[dict[str, int], int]:
    """Opcodes with their modifiers, and the instructions of the longest way from a label back to it."""
    opcode = re.compile(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z0-9_.]+)(.*)")
    counts: collections.Counter[str] = collections.Counter()
    labels: dict[str, int] = {}
    loop = 0
    for line in sass.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label.group(1)] = counts.total()
        elif found := opcode.search(line):
            counts[found.group(1)] += 1
            target = re.search(r"\.L_x_\d+", found.group(2))
            if found.group(1).startswith("BRA") and target and target.group() in labels:
                loop = max(loop, counts.total() - labels[target.group()])
    return dict(counts), loop if loop > 1 else counts.total()  # a program ends with a branch to itself


def _output(*command: object) -> str:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Every build for every architecture, as JSON."""
    with tempfile.TemporaryDirectory() as name:
        machines = {
            f"{build.name}/sm_{architecture}": dataclasses.asdict(compiled(build, architecture, Path(name)))
            for build in BUILDS
            for architecture in ARCHITECTURES
            if architecture >= build.least
        }
    json.dump(machines, sys.stdout)


if __name__ == "__main__":
    main()

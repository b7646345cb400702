"""Every Triton kernel compiles for Ampere, Hopper and Blackwell, keeps to its registers, and counts with POPC."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernels import sass
from tests.kernels.builds import BUILDS

NAMES = {f"{build.name}/sm_{architecture}": build for build in BUILDS for architecture in build.architectures}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def machines() -> dict[str, Any]:
    """What the compiler made, kernel by kernel."""
    pytest.importorskip("triton")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.kernels.sass"],
        cwd=Path(sass.__file__).parents[2],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    made: dict[str, Any] = json.loads(run.stdout)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_does_not_spill(machines: dict[str, Any], name: str) -> None:
    machine = machines[name]
    assert (machine["stack"], machine["local"]) == (0, 0)
    assert not {"LDL", "STL"} & machine["opcodes"].keys()
    assert machine["opcodes"].keys() & {"STG", "ATOMG", "RED", "REDG"}, "a kernel that stores nothing"


@pytest.mark.parametrize("name", [n for n, build in NAMES.items() if build.popcount])
def test_counts_with_popc(machines: dict[str, Any], name: str) -> None:
    assert machines[name]["opcodes"].get("POPC", 0) > 0


@pytest.mark.parametrize("architecture", [80, 90])
def test_convolves_on_the_tensor_cores(machines: dict[str, Any], architecture: int) -> None:
    assert machines[f"forms_convolve_kernel-any/sm_{architecture}"]["opcodes"].get("DMMA", 0) > 0


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("narrow_pool")])
def test_a_maximum_of_nan_is_nan(machines: dict[str, Any], name: str) -> None:
    maxima = {op for op in machines[name]["modified"] if op.startswith("FMNMX")}
    assert maxima
    assert all(".NAN" in op for op in maxima)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("b1_")])
def test_multiplies_bits_on_tensor_cores(machines: dict[str, Any], name: str) -> None:
    machine = machines[name]
    hot = next(loop for loop in machine["loops"] if "BMMA" in loop)
    assert (hot["BMMA"], hot["LDSM"], hot["LDGSTS"]) == (64, 16, 6)  # 64 x 64 counts a warp, 512 bits
    assert sum(hot.values()) <= 124
    assert not {"MOV", "IMMA", "POPC", "STS"} & hot.keys()
    assert machine["opcodes"]["BMMA"] in (64, 128)  # the loop, and its last turn apart
    assert machine["registers"] <= 255
    assert machine["shared"] <= 99 << 10  # what a block may have on Ada


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("dot_")])
def test_multiplies_bytes_and_does_little_else(machines: dict[str, Any], name: str) -> None:
    unit, times, loads = ("IGMMA", 4, 0) if name.endswith("sm_90") else ("IMMA", 64, 16)
    hot = next(loop for loop in machines[name]["loops"] if unit in loop)
    # 64 bytes of 128 x 256 codes: by warps 64 x 64 from shared memory, by warp groups straight out of it
    assert (hot[unit], hot.get("LDSM", 0), hot["LDGSTS"]) == (times, loads, 6)
    assert sum(hot.values()) <= 140
    assert not {"STS", "PRMT", "POPC"} & hot.keys()


TILES = ("hamming_pairwise", "neighbours_minima", "neighbours_within", "foreign_nearest")


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith(TILES)])
def test_a_population_count_serves_two_words(machines: dict[str, Any], name: str) -> None:
    hot = next(loop for loop in machines[name]["loops"] if "POPC" in loop)
    assert hot["POPC"] == 32  # a thread's 32 pairs, two words of each
    assert hot["LOP3"] <= 4 * 32 + 4


@pytest.mark.parametrize("name", [n for n, build in NAMES.items() if build.budget])
def test_waits_for_memory_alone(machines: dict[str, Any], name: str) -> None:
    assert 16 < machines[name]["loop"] <= NAMES[name].budget
    assert any(op.startswith("LDG") and ".128" in op for op in machines[name]["modified"])


TENSORS = ("covariance", "dot", "linear_step")


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith(TENSORS)])
def test_multiplies_on_the_tensor_cores(machines: dict[str, Any], name: str) -> None:
    kernel, architecture = name.split("/")
    halves = {"sm_80": "HMMA", "sm_90": "HGMMA", "sm_100": "UTCHMMA"}
    octets = {"sm_80": "IMMA", "sm_90": "IGMMA", "sm_100": "IMMA"}  # Triton has none of tensor memory for them
    units = octets if kernel.startswith("dot") else halves
    assert machines[name]["opcodes"].get(units[architecture], 0) > 0


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("linear_signs") and "-one" not in n])
def test_float32_products_are_ieee(machines: dict[str, Any], name: str) -> None:
    hot = machines[name]["loops"][0]
    assert hot.get("FFMA", 0) + 2 * hot.get("FFMA2", 0) == 512  # 32 sums a thread, 16 inputs
    assert not any("MMA" in op for op in machines[name]["opcodes"] if not op.startswith("FFMA"))


def test_every_kernel_is_compiled() -> None:
    device = Path(sass.__file__).parents[2] / "kernels/polykern_kernels/device"
    written = {
        line.split("(")[0].removeprefix("def ")
        for file in device.glob("*.py")
        for line in file.read_text().splitlines()
        if line.startswith("def ") and line.split("(")[0].endswith("_kernel")
    }
    assert written == {build.kernel for build in BUILDS}
    assert len({build.name for build in BUILDS}) == len(BUILDS)

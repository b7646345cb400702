"""The ceilings: the device code compiles to the units it claims; what it must compute is computed apart."""

import collections
import ctypes
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polykern_benches import _ceilings_cpu, _ceilings_cuda, _driver, _products, ceilings
from polykern_benches._units import CHAINS, Unit, hashed, units

HOPPER = {"b1_wgmma": "BGMMA", "int8_wgmma": "IGMMA", "fp16_wgmma": "HGMMA", "bf16_wgmma": "HGMMA"}
OPCODES = {
    "popcount": "POPC",
    "logic": "LOP3",
    "carry_save": "POPC",
    "float32": "FFMA",
    "b1_mma": "BMMA",
    "int8_mma": "IMMA",
    "fp16_mma": "HMMA",
    "bf16_mma": "HMMA",
    "float64_mma": "DMMA",
    **HOPPER,
}
TARGETS = {"80": set(HOPPER), "90a": set(), "100a": {"b1_mma", *HOPPER}}  # and the units that one lacks
SEED = 77


# --- the machine code ------------------------------------------------------------------------------


def opcodes(code: bytes, folder: Path) -> dict[str, collections.Counter[str]]:
    """How often each kernel has each opcode, by the disassembler that Triton brings."""
    triton = pytest.importorskip("triton")
    cubin = folder / "kernels.cubin"
    cubin.write_bytes(code)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"
    text = subprocess.run([str(tool), "-c", str(cubin)], capture_output=True, text=True, check=True).stdout
    found = {}
    for part in re.split(r"\.section\s+\.text\.", text)[1:]:
        name = re.match(r"\w+", part)
        assert name
        seen = re.findall(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z0-9_]+)", part)
        found[name[0]] = collections.Counter(seen)
    return found


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on the PATH")
@pytest.mark.parametrize("target", TARGETS)
def test_each_kernel_uses_the_unit_it_is_named_after(target: str, tmp_path: Path) -> None:
    found = opcodes(_driver.compiled(_ceilings_cuda.SOURCE, target), tmp_path)
    assert found.keys() == (OPCODES.keys() - TARGETS[target]) | {"copy", "read"}
    assert {unit.name for unit in units(target)} == OPCODES.keys()
    for name, counted in found.items():
        assert not {"LDL", "STL"} & counted.keys(), name
        if name in OPCODES:
            # the chains of a pass are there, and nothing was moved out of the loop
            assert counted[OPCODES[name]] >= (4 if name in HOPPER else CHAINS), name


def test_a_text_that_is_wrong_is_named(tmp_path: Path) -> None:
    source = tmp_path / "broken.cu"
    source.write_text("int x = ;\n")
    with pytest.raises(_driver.CompilerError, match=r"broken\.cu|neither nvcc nor"):
        _driver.compiled(source, "80")


# --- what the kernels must have computed -------------------------------------------------------------


def scalar_hash(lane: int, i: int, seed: int) -> int:
    x = ((lane * 16 + i + 1) * 2654435761 + seed) % 2**32
    x ^= x >> 15
    x = x * 2246822519 % 2**32
    return x ^ x >> 13


def test_the_numbers_are_those_of_the_device_code() -> None:
    got = hashed(np.arange(384), 3, SEED)
    assert got.tolist() == [scalar_hash(lane, 3, SEED) for lane in range(384)]


def chain(name: str, x: int, y: int, passes: int) -> int:
    """One chain, as the device code says it, in Python's integers."""
    key, other, low = SEED, ~(3 * SEED) % 2**32, 2**32 - 1
    for _ in range(passes):
        if name == "popcount":
            x = x + (x ^ key).bit_count() & low
        elif name == "logic":
            x = x ^ y ^ key
            y = (x & y) | (x & key) | (y & key)
        elif name == "carry_save":
            u, v = x ^ key, x ^ other
            carries = (y & u) | (y & v) | (u & v)
            y ^= u ^ v
            x = x + carries.bit_count() & low
        else:
            x = 4096 - x
    return x + y


@pytest.mark.parametrize("name", ["popcount", "logic", "carry_save", "float32"])
@pytest.mark.parametrize("passes", [1, 6, 37])
def test_chains(name: str, passes: int) -> None:
    (unit,) = (u for u in units("90a") if u.name == name)
    got = unit.written(passes, SEED)
    assert got.shape == (unit.threads,)
    for thread in (0, 5, 1023):
        lane = thread % 32
        pairs = [(scalar_hash(lane, i, SEED), scalar_hash(lane, i + CHAINS, SEED)) for i in range(CHAINS)]
        if name == "float32":
            pairs = [(x >> 20, y) for x, y in pairs]
        assert got[thread] == sum(chain(name, x, y, passes) for x, y in pairs)


def numbers(kind: str, word: int) -> list[int]:
    """The numbers in a word."""
    if kind == "b1":
        return [word >> j & 1 for j in range(32)]
    if kind == "int8":
        return [(word >> 8 * j & 15) - 16 * (word >> 8 * j + 3 & 1) for j in range(4)]
    return [1 - 2 * (word >> 16 * j + 15 & 1) for j in range(2)]


def times(kind: str, a: int, b: int) -> int:
    return sum(x * y for x, y in zip(numbers(kind, a), numbers(kind, b), strict=True))


@pytest.mark.parametrize("kind", ["b1", "int8", "fp16", "bf16"])
def test_fragments_of_a_warp(kind: str) -> None:
    """m16n8k256 and its kin: row lane / 4, word lane % 4, the second half of the rows in odd registers."""
    (unit,) = (u for u in units("90a") if u.name == f"{kind}_mma")
    got = unit.written(3, SEED)
    assert got.shape == (4 * unit.threads,)
    for thread, j in ((0, 0), (37, 1), (70, 2), (255, 3)):
        row, column = thread % 32 // 4, 2 * (thread % 4) + j % 2
        total = 0
        for word in range(8):
            register, lane = 2 * (word // 4) + j // 2, 4 * row + word % 4
            a = scalar_hash(lane, register, SEED)
            b = scalar_hash(4 * column + word % 4, 8 + word // 4, SEED)
            total += times(kind, a, b)
        assert got[4 * thread + j] == 3 * CHAINS * total


@pytest.mark.parametrize(("target", "registers"), [("80", 1), ("90a", 8)])
def test_fragments_of_float64(target: str, registers: int) -> None:
    (unit,) = (u for u in units(target) if u.name == "float64_mma")
    got = unit.written(5, SEED)
    for thread, j in ((0, 0), (37, 1), (70, 2), (255, 3)):
        row, column = thread % 32 // 4, 2 * (thread % 4) + j % 2
        total = 0
        for k in range(4 * ((registers + 1) // 2)):
            register = 2 * (k // 4) + j // 2
            if register < registers:
                a = (scalar_hash(4 * row + k % 4, register, SEED) >> 24) - 128
                total += a * ((scalar_hash(4 * column + k % 4, 8 + k // 4, SEED) >> 24) - 128)
        assert got[4 * thread + j] == 5 * CHAINS * total


@pytest.mark.parametrize("kind", ["b1", "int8", "fp16"])
def test_fragments_of_four_warps(kind: str) -> None:
    (unit,) = (u for u in units("90a") if u.name == f"{kind}_wgmma")
    got = unit.written(2, SEED)
    assert got.shape == (2 * unit.threads,)
    for thread, half in ((0, 0), (101, 1), (200, 0), (255, 1)):
        row = 64 * (thread // 128) + 16 * (thread // 32 % 4) + 8 * half + thread % 32 // 4
        columns = [8 * j + 2 * (thread % 4) + e for j in range(32) for e in (0, 1)]
        a = scalar_hash(row, 0, SEED)
        total = sum(times(kind, a, scalar_hash(128 + n, 0, SEED)) for n in columns)
        assert got[2 * thread + half] == 2 * 32 * total


def test_sums_stay_exact() -> None:
    """At the most passes no float32 sum leaves the exact integers and no int32 sum wraps."""
    for unit in units("90a"):
        if "mma" in unit.name:
            largest = int(np.abs(unit.written(1, _ceilings_cuda.SEED)).max()) * unit.most
            limit = 2**53 if unit.name == "float64_mma" else 2**31 * CHAINS if "wgmma" not in unit.name else 2**37
            assert largest <= limit, unit.name
            if unit.name[:4] in ("fp16", "bf16"):
                k = 64 if "wgmma" in unit.name else 16
                assert unit.most * k <= 2**21


# --- without a device ----------------------------------------------------------------------------------


class FakeModule:
    """Kernels that write what they should, or one number too few, to the memory they are given."""

    def __init__(self, lacking: str = "", broken: str = "") -> None:
        self.lacking, self.broken = lacking, broken

    def has(self, name: str) -> bool:
        return name != self.lacking

    def launch(self, name: str, blocks: int, threads: int, arguments: tuple[Any, ...]) -> None:
        wrong = int(name == self.broken)
        first, second, third = (x.value for x in arguments)
        if name == "copy":
            ctypes.memmove(second, first, 16 * third - wrong)
            return
        if name == "read":
            words = np.ctypeslib.as_array((ctypes.c_uint32 * (4 * third)).from_address(first))
            ctypes.c_int64.from_address(second).value = int(words.sum(dtype=np.int64)) - wrong
            return
        unit: Unit = next(u for u in units("90a") if u.name == name)
        assert threads == unit.threads
        block = unit.written(second, third)
        out = np.tile(block, blocks)[: len(block) * blocks - wrong]
        ctypes.memmove(first, out.ctypes.data, out.nbytes)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeModule], None]:
    """A device whose memory is the host's, with two processors and a clock of its own."""

    def install(module: FakeModule) -> None:
        monkeypatch.setattr(_ceilings_cuda, "DEVICE", "cpu")
        monkeypatch.setattr(_ceilings_cuda, "kernels", lambda: module)
        monkeypatch.setattr(_ceilings_cuda, "processors", lambda: 2)
        monkeypatch.setattr(_ceilings_cuda, "architecture", lambda: "90a")

        def best(fn: Callable[[], object], runs: int) -> tuple[float, int]:
            fn()
            return 1e-3, 1980

        monkeypatch.setattr(_ceilings_cuda, "_best", best)

    return install


def test_a_survey_of_a_device(fake: Callable[[FakeModule], None]) -> None:
    fake(FakeModule(lacking="b1_wgmma", broken="logic"))
    names = [name for name in ceilings.NAMES if not name.endswith("gemm")]
    found = ceilings.survey("cuda", small=True, only=names)
    assert found.missing == {
        "logic": "the kernel computed something else",
        "b1_wgmma": "sm_90a has no such unit",
    }
    assert found.rates.keys() == set(names) - {"logic", "b1_wgmma"}
    assert found.rates["popcount"] == found.rates["differing"] == 4 * 64 * 1024 * CHAINS / 1e-3
    assert found.rates["b1_mma"] == 4 * 64 * (8 * CHAINS * 16 * 8 * 256) / 1e-3
    assert found.rates["copy"] == 2 * found.rates["read"]
    assert set(found.clocks.values()) == {1980}
    assert found.ceilings.logic is None
    lines = ceilings.table(found, processors=2)
    assert any("a cycle at 1980 MHz" in line for line in lines)
    assert any("computed something else" in line for line in lines)


@pytest.mark.parametrize("name", ["copy", "read", "int8_wgmma", "float64_mma"])
def test_a_wrong_result_is_no_rate(name: str, fake: Callable[[FakeModule], None]) -> None:
    fake(FakeModule(broken=name))
    if name == "copy":  # torch's own copy goes first
        with pytest.raises(_products.WrongResult):
            _ceilings_cuda.measure(name, small=True)
    else:
        assert ceilings.survey("cuda", small=True, only=[name]).rates == {}


class FakeDriver:
    """The driver's library: one kernel, and a status for the rest."""

    def __init__(self) -> None:
        self.launched: list[tuple[Any, ...]] = []

    def cuModuleLoadData(self, module: Any, code: bytes) -> int:
        return 0 if code == b"code" else 200

    def cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> int:
        return 0 if name == b"known" else _driver.NOT_FOUND

    def cuLaunchKernel(self, function: Any, *shape: Any) -> int:
        self.launched.append(shape)
        return 0

    def cuGetErrorString(self, status: int, text: Any) -> int:
        text._obj.value = b"invalid image"
        return 0


def test_the_driver_is_asked_and_its_errors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = type("Stream", (), {"cuda_stream": 7})()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    driver = FakeDriver()
    module = _driver.Module(b"code", driver)
    assert (module.has("known"), module.has("unknown")) == (True, False)
    arguments = (ctypes.c_int(41), ctypes.c_uint32(3))
    module.launch("known", 5, 256, arguments)
    (shape,) = driver.launched
    assert shape[:7] == (5, 1, 1, 256, 1, 1, 0)
    assert shape[7].value == 7
    assert [ctypes.c_int.from_address(place).value for place in shape[8]] == [41, 3]
    with pytest.raises(LookupError, match="no kernel unknown"):
        module.launch("unknown", 1, 1, ())
    with pytest.raises(RuntimeError, match=r"cannot load the kernels: invalid image \(200\)"):
        _driver.Module(b"noise", driver)


# --- the processor -----------------------------------------------------------------------------------------


def test_the_ceilings_of_the_processor(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "ceilings.json"
    ceilings.main(["--device", "cpu", "--small", "--json", str(path)])
    written = json.loads(path.read_text())
    assert written["schema"] == "polykern-ceilings/1"
    assert {"copy", "read", "popcount", "differing", "float32_gemm", "float64_gemm"} <= written["rates"].keys()
    assert min(written["rates"].values()) > 0
    assert written["missing"]["b1_mma"] == "a CPU has no such unit"


def test_a_count_that_is_wrong_is_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ceilings_cpu, "differences", lambda words, passes: 1)
    found = ceilings.survey("cpu", small=True, only=["differing", "popcount"])
    assert found.missing == {"differing": "the count is wrong"}
    assert found.rates.keys() == {"popcount"}


def test_a_product_that_is_wrong_is_no_rate() -> None:
    run, judge = _products.product("float32_gemm", 64, "cpu")
    out = run()
    judge(out)
    out[-1, -1] += 1
    with pytest.raises(_products.WrongResult, match="the product is wrong by"):
        judge(out)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no unit warp; there are copy, read"):
        ceilings.measured("cpu", only=["warp"])


@pytest.mark.gpu
def test_the_ceilings_of_the_device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = ceilings.survey("cuda", small=True)
    none = {name for name, why in found.missing.items() if "no such unit" in why}
    assert found.missing.keys() == TARGETS.get(_driver.architecture(), none), found.missing
    assert min(found.rates.values()) > 0

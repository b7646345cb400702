"""What the units of a CUDA device give at best: the kernels of `ceilings.cu`, torch's copies and products."""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polykern_benches._driver import Module, architecture, compiled
from polykern_benches._products import KINDS, WrongResult, product
from polykern_benches._units import Unit, units

SOURCE = Path(__file__).with_name("ceilings.cu")
LONG = 8e-3  # seconds a timed run takes at least
RUNS = 5
SEED = 12345
DEVICE = "cuda"
THREADS, AHEAD, VECTOR = 256, 8, 16  # of the memory kernels: threads a block, loads in flight, bytes a load
BLOCKS = 8  # of the memory kernels, a processor
Timed = tuple[float, int | None]  # seconds, MHz


@cache
def kernels() -> Module:
    """The compiled kernels, on the current device."""
    return Module(compiled(SOURCE, architecture()))


def processors() -> int:
    """Multiprocessors of the device."""
    return int(torch.cuda.get_device_properties(DEVICE).multi_processor_count)


def measure(name: str, small: bool) -> Timed:
    """The rate of a unit of `Ceilings`, and the clock of the processors meanwhile.

    Raises LookupError when the device has no such unit, WrongResult when what was computed is wrong, CompilerError
    when the kernels cannot be compiled.
    """
    if name in KINDS:
        return _product(name, small)
    if name in ("copy", "read"):
        return (_copy if name == "copy" else _read)(small)
    found = {unit.name: unit for unit in units(architecture())}
    unit = found["popcount" if name == "differing" else name]
    if not kernels().has(unit.name):
        raise LookupError(f"sm_{architecture()} has no such unit")
    return _unit(unit, small)


def _unit(unit: Unit, small: bool) -> Timed:
    """Passes enough for LONG, by a first run; then the best of several, and its results."""
    blocks = unit.blocks * processors()
    one = len(unit.written(1, SEED))
    out = torch.empty(blocks * one, dtype=torch.int64, device=DEVICE)

    def run(passes: int) -> Callable[[], None]:
        given = (ctypes.c_void_p(out.data_ptr()), ctypes.c_int(passes), ctypes.c_uint32(SEED))
        return lambda: kernels().launch(unit.name, blocks, unit.threads, given)

    first = 64
    seconds, _ = _best(run(first), 2)
    passes = first if small else min(unit.most, max(first, int(first * LONG / seconds)))
    out.fill_(-1)
    seconds, clock = _best(run(passes), RUNS)
    truth = torch.from_numpy(unit.written(passes, SEED))
    if not (out.view(blocks, one).cpu() == truth).all():
        raise WrongResult("the kernel computed something else")
    return unit.work * blocks * passes / seconds, clock


# --- memory -------------------------------------------------------------------------------------


def _line(small: bool) -> tuple[int, int]:
    """Blocks of a memory kernel, and how many times each of its threads loads AHEAD vectors."""
    blocks = BLOCKS * processors()
    step = blocks * THREADS * AHEAD * VECTOR
    wanted = (1 << 26) if small else min(2 << 30, torch.cuda.mem_get_info()[0] // 8)
    return blocks, max(1, wanted // step)


def _random(size: int) -> Tensor:
    return torch.randint(-(2**31), 2**31 - 1, (size // 4,), dtype=torch.int32, device=DEVICE)


def _copy(small: bool) -> Timed:
    blocks, times = _line(small)
    source = _random(times * blocks * THREADS * AHEAD * VECTOR)
    target = torch.empty_like(source)
    size = source.numel() * 4
    given = (*_addresses(source, target), ctypes.c_int64(size // VECTOR))
    found = []
    for way in (lambda: target.copy_(source), lambda: kernels().launch("copy", blocks, THREADS, given)):
        target.fill_(0)
        found.append(_best(way, RUNS))
        if not torch.equal(source, target):
            raise WrongResult("the copy is wrong")
    seconds, clock = min(found, key=lambda timed: timed[0])
    return 2 * size / seconds, clock


def _read(small: bool) -> Timed:
    blocks, times = _line(small)
    source = _random(times * blocks * THREADS * AHEAD * VECTOR)
    size = source.numel() * 4
    sums = torch.zeros(blocks * THREADS, dtype=torch.int64, device=DEVICE)
    given = (*_addresses(source, sums), ctypes.c_int64(size // VECTOR))
    seconds, clock = _best(lambda: kernels().launch("read", blocks, THREADS, given), RUNS)
    truth = source.sum(dtype=torch.int64) + (source < 0).sum() * 2**32  # the words are unsigned there
    if sums.sum() != truth:
        raise WrongResult("not all was read")
    return size / seconds, clock


def _addresses(*tensors: Tensor) -> tuple[ctypes.c_void_p, ...]:
    return tuple(ctypes.c_void_p(x.data_ptr()) for x in tensors)


# --- products, clocks ---------------------------------------------------------------------------


def _product(name: str, small: bool) -> Timed:
    size = 1024 if small else 8192
    run, judge = product(name, size, DEVICE)
    judge(run())
    seconds, clock = _best(run, RUNS)
    return 2 * size**3 / seconds, clock


def _best(fn: Callable[[], Any], runs: int) -> Timed:
    """The fastest of several runs, the first not counted, and the clock behind the last."""
    fn()
    times, clock = [], None
    for _ in range(runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        fn()
        end.record()
        clock = _clock()  # the device is at work meanwhile
        torch.cuda.synchronize()
        times.append(float(begin.elapsed_time(end)) / 1e3)
    return min(times), clock


def _clock() -> int | None:
    """MHz of the processors, where nvidia-ml-py can say it."""
    try:
        return torch.cuda.clock_rate()
    except Exception:  # of the library, of the driver: a clock is told, never needed
        return None

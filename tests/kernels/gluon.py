"""Runs a Gluon kernel's own text on the CPU, program by program: numpy for tensors, PTX's fragments for assembly.

An asynchronous copy is rubbish from when it is issued until its group has been waited for; every load and store
must lie inside its tensor; no element is stored twice in a launch. Programs run in a shuffled order. What a layout
means for registers is the compiler's part: conversions that cost nothing are asserted there, in `sass`.
"""

import re
import types
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

RUBBISH = -0x5A5A5A5B
WORDS_A = ((0, 0), (8, 0), (0, 4), (8, 4))  # (row, word) that a register of lane (g, t) adds to (g, t)
WORDS_B = ((0, 0), (0, 4))  # (column, word)
COUNTS = ((0, 0), (0, 1), (8, 0), (8, 1))  # (row, column) added to (g, 2 t)


class Array(np.ndarray[Any, Any]):
    """A tensor, of no axes too."""

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> "Array":
        return array.view(Array)  # type: ignore[no-any-return]

    def to(self, dtype: Any) -> "Array":
        return self.astype(dtype).view(Array)

    def permute(self, axes: list[int]) -> "Array":
        return self.transpose(axes)


def array(x: Any, dtype: Any = None) -> Array:
    return np.asarray(x, dtype).view(Array)


class Pointer:
    """Places in a tensor."""

    def __init__(self, memory: Any, at: Any, stored: set[int]) -> None:
        self.memory, self.at, self.stored = memory, at, stored
        self.dtype = types.SimpleNamespace(element_ty=memory.dtype)

    def __add__(self, offset: Any) -> "Pointer":
        return Pointer(self.memory, self.at + np.asarray(offset, np.int64), self.stored)

    def __sub__(self, offset: int) -> "Pointer":
        return self + -offset

    def places(self, mask: Any) -> tuple[Any, Any]:
        at, wanted = np.broadcast_arrays(self.at, True if mask is None else mask)
        inside = (at >= 0) & (at < len(self.memory))
        assert (inside | ~wanted).all(), "outside of the tensor"
        return np.where(wanted, at, 0), wanted


class Ring:
    """Shared memory by stages."""

    def __init__(self, shape: list[int]) -> None:
        self.stages = np.full(shape, RUBBISH, np.int32)

    def index(self, stage: int) -> Any:
        assert 0 <= stage < len(self.stages)
        return types.SimpleNamespace(
            memory=self.stages[stage], load=lambda layout: array(self.stages[stage].copy())
        )


class Copies:
    """Asynchronous copies: groups that are on their way."""

    def __init__(self) -> None:
        self.groups: list[list[tuple[Any, Any]]] = [[]]

    def async_copy_global_to_shared(self, stage: Any, source: Pointer) -> None:
        assert (source.at[:, ::4] % 4 == 0).all(), "16 bytes are copied at once"
        self.groups[-1].append((stage.memory, load(source)))
        stage.memory[...] = RUBBISH

    def commit_group(self) -> None:
        self.groups.append([])

    def wait_group(self, outstanding: int) -> None:
        done = len(self.groups) - 1 - outstanding
        for group in self.groups[: max(done, 0)]:
            for memory, words in group:
                memory[...] = words
            group.clear()


def load(source: Pointer, mask: Any = None, other: Any = 0, cache_modifier: str = "") -> Array:
    at, wanted = source.places(mask)
    return array(np.where(wanted, source.memory[at], other), source.memory.dtype)


def store(target: Pointer, values: Any, mask: Any = None) -> None:
    at, wanted = target.places(mask)
    places = at[wanted].tolist()
    assert len(set(places)) == len(places), "stored twice at once"
    assert not target.stored & set(places), "stored twice"
    target.stored.update(places)
    target.memory[at[wanted]] = np.broadcast_to(values, at.shape)[wanted]


def atomic(lower: Any) -> Callable[..., None]:
    def update(target: Pointer, values: Any, mask: Any = None, sem: str = "") -> None:
        at, wanted = target.places(mask)
        assert values.dtype == target.memory.dtype
        lower.at(target.memory, at[wanted], np.broadcast_to(values, at.shape)[wanted])

    return update


def assembly(text: str, constraints: str, operands: list[Array], dtype: Any, is_pure: bool, pack: int) -> Array:
    """Lines of m16n8k256 over the registers of all warps: operands a [I, 1, X], b [1, J, X], counts [I, J, X]."""
    assert constraints.split(",") == ["=&r"] * 8 + ["r"] * 16 + [str(i) for i in range(8)]
    a, b, counts = (x.reshape(*x.shape[:2], 32, pack) for x in operands)  # a lane holds `pack` neighbours
    registers = [*np.moveaxis(counts, -1, 0).copy(), *np.moveaxis(a, -1, 0), *np.moveaxis(b, -1, 0)]
    lines = [line for line in text.splitlines() if line.startswith("mma.sync")]
    g, t = np.arange(32) // 4, np.arange(32) % 4
    for line in lines:
        assert line.startswith("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {")
        out, left, right, added = (
            [int(i) for i in re.findall(r"\$(\d+)", group)] for group in re.findall("{(.*?)}", line)
        )
        x = np.zeros((*registers[left[0]].shape[:2], 16, 8), np.int32)
        y = np.zeros((*registers[right[0]].shape[:2], 8, 8), np.int32)
        for register, (row, word) in zip(left, WORDS_A, strict=True):
            x[:, :, g + row, t + word] = registers[register]
        for register, (column, word) in zip(right, WORDS_B, strict=True):
            y[:, :, g + column, t + word] = registers[register]
        ones = np.bitwise_count((x[..., :, None, :] & y[..., None, :, :]).view(np.uint32)).sum(-1, dtype=np.int32)
        for register, source, (row, column) in zip(out, added, COUNTS, strict=True):
            registers[register] = registers[source] + ones[:, :, g + row, 2 * t + column]
    return array(np.stack(registers[:8], -1).reshape(operands[2].shape), np.int32)


def _language(program: int, copies: Copies) -> Any:
    def select(wanted: Any, x: Any, y: Any) -> Array:
        kinds = [v.dtype for v in (x, y) if isinstance(v, np.ndarray)]
        return array(np.where(wanted, x, y), kinds[0] if kinds else None)

    return types.SimpleNamespace(
        **{"int16": np.int16, "int32": np.int32, "int64": np.int64, "static_range": range, "load": load},
        **{"store": store, "atomic_add": atomic(np.add), "atomic_min": atomic(np.minimum), "where": select},
        **{"inline_asm_elementwise": assembly, "program_id": lambda axis: program, "cdiv": lambda x, y: -(-x // y)},
        SliceLayout=lambda axis, layout: None,
        arange=lambda first, end, layout: array(np.arange(first, end, dtype=np.int32)),
        zeros=lambda shape, dtype, layout: array(np.zeros(shape, dtype)),
        allocate_shared_memory=lambda dtype, shape, layout: Ring(shape),
        convert_layout=lambda x, layout, assert_trivial=False: x,
        minimum=lambda x, y: array(np.minimum(x, y)),
        maximum=lambda x, y: array(np.maximum(x, y)),
        min=lambda x, axis: array(x.min(axis)),
        max=lambda x, axis: array(x.max(axis)),
        sum=lambda x, axis: array(x.sum(axis, dtype=x.dtype)),
    )


def _bound(function: Any, language: Any, copies: Copies) -> Callable[..., Any]:
    """The Python function under a jitted one, where `gl` is numpy and jitted functions are Python too."""
    scope: dict[str, Any] = {}
    for name, value in function.fn.__globals__.items():
        if type(value).__name__ == "constexpr":
            value = value.value
        elif type(value).__name__ == "GluonJITFunction":
            value = _late(value, language, copies)
        scope[name] = value
    scope.update(gl=language, async_copy=copies, _barrier=lambda: None)
    return types.FunctionType(function.fn.__code__, scope)


def _late(function: Any, language: Any, copies: Copies) -> Callable[..., Any]:
    return lambda *args: _bound(function, language, copies)(*args)


class Emulated:
    """A kernel as it is launched: kernel[grid](*args, **constants)."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.programs = 0

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        def launch(*args: Any, num_warps: int, **constants: Any) -> None:
            assert num_warps == 8
            given = [self._memory(x) if isinstance(x, Tensor) else x for x in args]
            names = self.kernel.arg_names
            for program in np.random.default_rng(0).permutation(grid[0]).tolist():
                copies = Copies()
                run = _bound(self.kernel, _language(program, copies), copies)
                run(**dict(zip(names, given, strict=False)), **constants)
                self.programs += 1

        return launch

    @staticmethod
    def _memory(x: Tensor) -> Pointer:
        assert x.is_contiguous()
        return Pointer(x.numpy().reshape(-1), np.int64(0), set())

"""Forward passes of a model, of which codes and activations of chosen rows are kept."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from polykern.arithmetic import ieee
from polykern.codes import Codes, joined, packed
from polykern.errors import CorruptError, UsageError
from polykern.layout import Field, Layout
from polykern.selectors import BLOCK, Select, lens_name, matches
from polykern.tracing import trace
from polykern.walk import modules_of

OUTPUT, INPUT = "output:", "input:"  # before the name of a module of which that is kept
Rows = Literal["items", "tokens", "cells"]
DTYPES = {
    "float16": torch.float16, "fp16": torch.float16, "half": torch.float16,
    "bfloat16": torch.bfloat16, "bf16": torch.bfloat16,
    "float32": torch.float32, "fp32": torch.float32, "float": torch.float32,
}  # fmt: skip


class Kept(NamedTuple):
    """What a pass leaves of its kept rows.

    codes        of n rows
    activations  name -> float (n, *shape), in the dtypes that were asked for, on the CPU
    """

    codes: Codes
    activations: dict[str, Tensor]


class Watch:
    """The nonlinearities of a model that make the code, and the values that are kept beside it.

    model        in eval mode
    select       which nonlinearities (`polykern.selectors`)
    start, stop  modules between which they lie; "": from the input, to the output
    rows         "items": a code for each item; "tokens": for each token; "cells": for each place of feature maps
                 of one height and width: the channels there, in the order of the layers
    activations  name -> dtype: a glob over the selected nonlinearities, whose pre-activations are kept;
                 output:MODULE, whose output is; or input:MODULE, whose first input is

    Errors: UsageError when a name fits nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        select: Select = "*",
        start: str = "",
        stop: str = "",
        rows: Rows = "items",
        activations: Mapping[str, torch.dtype] | None = None,
    ) -> None:
        self.model, self.rows = model, rows
        self.wanted = dict(activations or {})
        self._modules = {name: _module(model, name) for name in self.wanted if name.startswith((OUTPUT, INPUT))}
        values = rows == "cells" or len(self._modules) < len(self.wanted)
        inner: Literal["items", "tokens"] = "tokens" if rows == "tokens" else "items"
        self._trace = trace(model, start=start, stop=stop, select=select, rows=inner, values=values)
        self._values, self._noted = values, dict[str, Tensor]()
        self._layout: Layout | None = None
        self.grid: tuple[int, int] | None = None
        self.width = 0  # rows of the last pass, kept or not
        self.kept: dict[str, torch.dtype] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    @property
    def layout(self) -> Layout:
        """Of the codes; known after the first pass."""
        if self._layout is None:
            raise UsageError("nothing has been run")
        return self._layout

    def run(self, inputs: Any, keep: Tensor | None = None) -> Kept:
        """One forward pass.

        inputs   what the model is called with: a tensor, a tuple of positional or a dict of keyword arguments
        keep     int64 (n): rows that are kept, in this order; None: all. A row is an item, or item * tokens +
                 token, or item * cells + cell

        Raises CorruptError naming the nonlinearity when a pre-activation is NaN, in any row; ResourceError is the
        caller's to make of an OutOfMemoryError.
        """
        args, kwargs = _arguments(inputs)
        hooks = [self._noting(name, module) for name, module in self._modules.items()]
        try:
            with ieee(), torch.no_grad(), self._trace as t:
                if hooks:
                    self.model(*args, **kwargs)
                else:
                    t.run(*args, **kwargs)
                values = t.values if self._values else {}
                codes = t.take()
        finally:
            for hook in hooks:
                hook.remove()
        if self.rows == "cells":
            codes, values = self._cells(codes.layout, values)
        if self._layout is None:
            self._settle(codes.layout)
        self.layout.require_same(codes.layout)
        self.width = len(codes)
        noted, self._noted = self._noted, {}
        if missed := [name for name in self._modules if name not in noted]:
            raise UsageError(f"a pass does not reach the module of {missed[0]!r}")
        values |= {name: self._rowed(name, out, len(codes)) for name, out in noted.items()}
        kept = {name: _cast(name, _rows(values[name], keep), dtype) for name, dtype in self.kept.items()}
        self.shapes = {name: tuple(value.shape[1:]) for name, value in kept.items()}
        chosen = codes if keep is None else codes[keep.to(codes.words.device)]
        return Kept(chosen.to("cpu"), kept)

    def _noting(self, name: str, module: nn.Module) -> Any:
        """A hook that notes what comes out of a module, or goes into it."""

        def note(value: Any) -> None:
            self._noted[name] = (value if isinstance(value, Tensor) else value[0]).detach().clone()

        if name.startswith(INPUT):
            return module.register_forward_pre_hook(
                lambda module, args, kwargs: note(args or tuple(kwargs.values())), with_kwargs=True
            )
        return module.register_forward_hook(lambda module, args, output: note(output))

    def _rowed(self, name: str, out: Tensor, rows: int) -> Tensor:
        """What was noted of a module, with a row for every row of the codes."""
        if self.rows == "tokens" and out.ndim > 2:
            out = out.flatten(0, 1)
        if self.rows == "cells" and out.ndim == 4:
            out = out.permute(0, 2, 3, 1).flatten(0, 2)
        if len(out) != rows:
            raise UsageError(f"the {name.replace(':', ' of ', 1)} has {len(out)} rows, the codes have {rows}")
        return out

    def _cells(self, layout: Layout, values: Mapping[str, Tensor]) -> tuple[Codes, dict[str, Tensor]]:
        """Codes and pre-activations of the channels at every place."""
        for f in layout.fields:
            if len(f.shape) != 3 or f.shape[1:] != layout.fields[0].shape[1:]:
                raise UsageError(
                    f"{f.name} has shape {list(f.shape)}, {layout.fields[0].name} {list(layout.fields[0].shape)}",
                    why="codes of places need feature maps (channels, height, width) of one height and width",
                    fix="select one stage, or take a code for every whole image",
                )
        self.grid = layout.fields[0].shape[1], layout.fields[0].shape[2]
        flat = {name: z.permute(0, 2, 3, 1).flatten(0, 2) for name, z in values.items()}
        fields = [Field(f.module, f.call, f.kind, f.shape[:1], f.thresholds, 0) for f in layout.fields]
        return side_by_side(fields, [flat[f.name] for f in fields]), flat

    def _settle(self, layout: Layout) -> None:
        """Which values are kept, now that it is known what there is."""
        self._layout = layout
        for name, dtype in self.wanted.items():
            named = [f.name for f in layout.fields if matches(f, name)] if name not in self._modules else [name]
            if not named:
                raise UsageError(
                    f"no activation is called {name!r}",
                    why=f"the code is made of {', '.join(f.name for f in layout.fields[:4])} ...",
                    fix=f"name one of them, or a module: {OUTPUT}NAME, {INPUT}NAME",
                )
            self.kept |= dict.fromkeys(named, dtype)


def side_by_side(fields: Sequence[Field], values: Sequence[Tensor]) -> Codes:
    """The codes of pre-activations (n, *shape of the field) each."""
    layout = Layout.of(fields)
    return joined([packed(f, z) for f, z in zip(layout.fields, values, strict=True)], layout, {})


def mlps(blocks: Sequence[int] | None = None, first: int | None = None) -> "Select":
    """A selector of the nonlinearities in the numbered blocks of a transformer, its attention left out.

    blocks  their numbers; None: all
    first   only blocks from this one on: the codes from a layer to the output (Black et al. 2022, appendix E)
    """

    def chosen(field: Field) -> bool:
        if lens_name(field) is None:
            return False
        found = BLOCK.search(field.module)
        number = int(found[1]) if found else 0
        return (blocks is None or number in blocks) and (first is None or number >= first)

    return chosen


def activations(words: Sequence[str]) -> dict[str, torch.dtype]:
    """What NAME:DTYPE words ask for; DTYPE alone stands for everything that is selected. Raises UsageError."""
    found: dict[str, torch.dtype] = {}
    for word in words:
        name, _, kind = word.rpartition(":")
        if not name and kind in DTYPES:
            name = "*"
        elif kind not in DTYPES:
            name, kind = word, "float16"
        found[name] = DTYPES[kind]
    return found


def dtype_of(word: str) -> torch.dtype:
    """What a word of DTYPES stands for; raises UsageError for any other."""
    if word not in DTYPES:
        raise UsageError(f"there is no dtype {word!r}", fix=f"choose one of {', '.join(DTYPES)}")
    return DTYPES[word]


def _module(model: nn.Module, name: str) -> nn.Module:
    """The module behind `output:` or `input:`."""
    module = name.partition(":")[2]
    return modules_of(model, module)[module]


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})


def _rows(values: Tensor, keep: Tensor | None) -> Tensor:
    return values if keep is None else values[keep.to(values.device)]


def _cast(name: str, values: Tensor, dtype: torch.dtype) -> Tensor:
    found = values.to(dtype).cpu()
    if not found.isfinite().all():
        if values.isnan().any():
            raise CorruptError(f"the activations of {name} hold NaN")
        raise UsageError(f"activations of {name} do not fit {dtype}", fix="keep them in bfloat16 or float32")
    return found

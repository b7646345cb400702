"""Traces: the spline codes of whatever a model is run on.

    with trace(model, start="inception5a") as t:
        model(images)
    t.codes

The pre-activations are packed where they are met, before an in-place ReLU overwrites them; nothing of the model is
changed, and its outputs are its own. `polykern.points.codes_of` is the plain function. Black et al. 2022,
"Interpreting Neural Networks through the Polytope Lens".
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import wraps
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from polykern.activations import MODULES, Activation
from polykern.codes import Codes, joined, packed
from polykern.errors import UsageError
from polykern.layout import Field, Layout
from polykern.pools import INDEXED, note_choices
from polykern.selectors import Select, matches, require_used
from polykern.walk import Finished, Walk, modules_of
from polykern.wrappers import network

Rows = Literal["items", "tokens"]


def trace(
    model: Any,
    *,
    start: str = "",
    stop: str = "",
    select: Select = "*",
    rows: Rows = "items",
    pools: bool = False,
    values: bool = False,
) -> "Trace":
    """A context in which every forward pass of a model leaves its spline codes.

    model   any nn.Module in eval mode, on any device, in float64, float32, bfloat16 or float16; also one of
            TransformerLens, or in a wrapper of nnsight (`polykern.wrappers`)
    start   dotted name of the module from whose input on nonlinearities count; "" = all
    stop    dotted name of the module after whose output they no longer count; "" = all
    select  which of them make the code (`polykern.selectors`)
    rows    "items": a code for each item of the batch; "tokens": for inputs of tokens, whose pre-activations have
            shape (batch, tokens, ...) or (batch * tokens, units), a code for each token, rows ordered by
            (item, token): live codes
    pools   also keep what the max-pools choose (`Codes.choices`)
    values  also keep the pre-activations

    A pass is one call of the model, or of one of its modules from outside that meets a nonlinearity. All passes
    must meet the same nonlinearities in the same order; codes come out in the order of the passes. A code of n
    points is the same whatever they are batched with, up to the arithmetic of the model itself.

    Errors: UsageError when the model is in training mode, a name or selector fits nothing, or a pass differs from
    the first; CorruptError naming the nonlinearity whose pre-activations hold NaN.
    """
    return Trace(model, start=start, stop=stop, select=select, rows=rows, pools=pools, values=values)


class Trace:
    """What `trace` gives; `layout`, `codes` and `values` grow with every pass."""

    def __init__(
        self,
        model: Any,
        *,
        start: str = "",
        stop: str = "",
        select: Select = "*",
        rows: Rows = "items",
        pools: bool = False,
        values: bool = False,
    ) -> None:
        if rows not in ("items", "tokens"):
            raise UsageError(f'rows is "items" or "tokens", got {rows!r}')
        if pools and rows == "tokens":
            raise UsageError("a max-pool has no tokens", fix='rows="items"')
        self.model, self.select, self.rows = network(model), select, rows
        self._keep_values, self._keep_pools = values, pools
        self._walk = _TraceWalk(self, modules_of(self.model, start, stop), start, stop)
        self._stack = ExitStack()
        self._watching = self._early = False
        self._layout: Layout | None = None
        self._done: list[Codes] = []
        self._values: dict[str, list[Tensor]] = {}
        self._pass = _Pass()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._walk.rewind()
            self._walk.watch(stack)
            self._stack = stack.pop_all()
        self._watching = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._watching = False
        self._stack.close()

    @property
    def layout(self) -> Layout:
        """Which bit is which unit of which nonlinearity; known after the first pass."""
        if self._layout is None:
            raise UsageError("nothing has been traced", fix="call the model inside the with block")
        return self._layout

    @property
    def codes(self) -> Codes:
        """The codes of all passes so far, on the model's device."""
        if len(self._done) != 1:
            words = torch.empty(0, self.layout.words, dtype=torch.int32)
            self._done = [Codes.cat(self._done) if self._done else Codes(words, self.layout)]
        return self._done[0]

    @property
    def values(self) -> dict[str, Tensor]:
        """The pre-activations (n, *shape) of each selected nonlinearity, by its name; needs values=True."""
        if not self._keep_values:
            raise UsageError("pre-activations are kept only when asked for", fix="trace(..., values=True)")
        return {name: torch.cat(parts) for name, parts in self._values.items()}

    def take(self) -> Codes:
        """The codes so far, which are then forgotten; the layout stays. For streams that outgrow memory."""
        codes = self.codes
        self._done, self._values = [], {}
        return codes

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Run the model on these inputs, but no further than the last selected nonlinearity.

        The first pass, which finds out which one that is, runs to the end; so do all when pools are kept, which
        may follow it. There is no output.
        """
        if not self._watching:
            raise UsageError("the trace is closed", fix="call run inside the with block")
        self._early = True
        try:
            self.model(*args, **kwargs)
        except Finished:
            self._finish()
        finally:
            self._early = False

    # --- what the walk meets ------------------------------------------------------------------------

    def _reached(self, field: Field, z: Tensor) -> None:
        if self.rows == "tokens":
            if z.ndim < 2:
                raise UsageError(
                    f"the pre-activations of {field.name} have shape {list(z.shape)}, which has no axis of tokens",
                    fix='rows="items", or select others',
                )
            if z.ndim > 2:  # else flattened already, as in OPT
                field, z = replace(field, shape=tuple(z.shape[2:])), z.flatten(0, 1)
        self._pass.found.append(field)
        if not matches(field, self.select):
            return
        self._pass.fields.append(field)
        self._pass.words.append(packed(field, z))
        if self._keep_values:
            self._pass.values.append(z.detach().clone())
        if (
            self._early
            and not self._keep_pools
            and self._layout is not None
            and len(self._pass.fields) == len(self._layout.fields)
        ):
            raise Finished(None)

    def _finish(self) -> None:
        done, self._pass = self._pass, _Pass()
        if not self._early or self._layout is None:
            self._walk.require_whole()
        if self._layout is None:
            _require_any(done.found, self._walk)
            require_used(done.found, self.select)
            self._layout = Layout.of(done.fields)
        _require_same(self._layout, done.fields)
        self._done.append(joined(done.words, self._layout, done.choices, repeat=self.rows == "items"))
        for field, z in zip(done.fields, done.values, strict=False):
            self._values.setdefault(field.name, []).append(z)

    def _drop(self) -> None:
        self._pass = _Pass()


class _Pass:
    """What one forward pass has left so far."""

    def __init__(self) -> None:
        self.found: list[Field] = []
        self.fields: list[Field] = []
        self.words: list[Tensor] = []
        self.values: list[Tensor] = []
        self.choices: dict[str, Tensor] = {}


class _TraceWalk(Walk):
    """Watches every pass between entering and leaving the trace."""

    def __init__(self, owner: Trace, modules: Mapping[str, nn.Module], start: str, stop: str) -> None:
        super().__init__(modules, start, stop)
        self.owner = owner
        self.silent: list[int] = []  # depths of activations that are written out in arithmetic
        self.before: BaseException | None = None

    def watch(self, stack: ExitStack) -> None:
        """A call of `model.forward` itself, as TransformerLens's `run_with_hooks` makes it, is a pass as well."""
        super().watch(stack)
        model, held = self.modules[""], vars(self.modules[""])
        own = {name: value for name, value in held.items() if name == "forward"}
        held["forward"] = self._passed(model, model.forward)
        stack.callback(held.update, own)
        stack.callback(held.pop, "forward")

    def _passed(self, model: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The function `forward` of a model, with what its hooks would do where it is called without them."""
        enter, leave = self._enter(""), self._leave("")

        @wraps(forward)
        def passed(*args: Any, **kwargs: Any) -> Any:
            if len(self.here) > 1:
                return forward(*args, **kwargs)
            enter(model, args, kwargs)
            try:
                output = forward(*args, **kwargs)
            except BaseException:
                leave(model, args, None)
                raise
            leave(model, args, output)
            return output

        return passed

    def outermost(self, name: str) -> None:
        self.rewind()
        self.here = ["", name]
        self.silent, self.before = [], sys.exc_info()[1]
        if self.start == "":
            self.inside = self.entered = True
        self.owner._drop()

    def entering(self, name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        written = MODULES.get(type(module).__name__)
        if written is not None and self.inside and not self.quiet and args:
            self.silent.append(len(self.here))
            self.meet(written, args[0], lambda: None)
            self.quiet += 1

    def leaving(self, name: str, args: tuple[Any, ...], output: Any) -> None:
        if self.silent and self.silent[-1] == len(self.here) + 1:
            self.silent.pop()
            self.quiet -= 1
        if self.stopped:
            self.inside = False
        if len(self.here) > 1:
            return
        self.inside = False
        error = sys.exc_info()[1]
        if error is self.before and (name == "" or self.start or self.owner._pass.found):
            self.owner._finish()
        elif not isinstance(error, Finished):
            self.owner._drop()

    def reached(self, field: Field, activation: Activation, z: Any, proceed: Callable[[], Any]) -> Any:
        self.owner._reached(field, z)
        return proceed()

    def called(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Sequence[Any]]:
        if self.owner._keep_pools and func in INDEXED:
            note_choices(self.owner._pass.choices, self.calls, self.here[-1], func, args, kwargs)
        return func, args


def _require_same(layout: Layout, fields: Sequence[Field]) -> None:
    """The fields of this pass must be those of the first."""
    for first, now in zip(layout.fields, Layout.of(fields).fields, strict=False):
        if first != now:
            raise UsageError(
                f"a pass meets {now.name} {list(now.shape)} where the first met {first.name} {list(first.shape)}",
                why="codes of different layouts cannot be compared",
            )
    if len(fields) != len(layout.fields):
        raise UsageError(f"a pass meets {len(fields)} nonlinearities, the first met {len(layout.fields)}")


def _require_any(found: Sequence[Field], walk: Walk) -> None:
    if not found:
        raise UsageError(
            f"no nonlinearity between {walk.start or 'the input'!r} and {walk.stop or 'the output'!r}",
            fix="polykern layers MODEL prints what there is",
        )

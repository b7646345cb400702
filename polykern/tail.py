"""Tails: the part of a model behind the input of one of its modules.

The model stays as it is. A pre-hook swaps a batch of points in for the input of the start module; what lies
before it runs once, for one sample, and is replayed afterwards; a TorchFunctionMode meets every nonlinearity
behind it, functional or module, and hands it to the caller with its place in the code; an exception ends
the forward after the last wanted module. The points may be tensors or any `polykern.carrier.Carrier`.
"""

import copy
import fnmatch
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from polykern.activations import MODULES, Activation, in_place, recognise
from polykern.carrier import Carrier
from polykern.errors import UsageError
from polykern.layout import Field, Layout

Select = str | Sequence[str] | Callable[[Field], bool]


@dataclass(frozen=True, slots=True)
class Meeting:
    """A nonlinearity met on the way.

    field       its bits in the code, or None when it is not selected
    activation  what it does
    z           its pre-activation, batch first
    proceed     runs the original call and gives its result
    """

    field: Field | None
    activation: Activation
    z: Any
    proceed: Callable[[], Any]


Reach = Callable[[Meeting], Any]  # takes a meeting, gives the activated value


class Tail:
    """A model from the input of `start` to the output of `stop`.

    model   any nn.Module in eval mode; it is not changed
    sample  inputs of the model for one item: a tensor, a tuple of positional or a dict of keyword arguments
    start   dotted name of the module whose input the points replace; "" = the model itself
    stop    dotted name of the module after whose output the forward ends; "" = the model's output
    select  which nonlinearities make the code: globs over module names, or a predicate over `Field`

    layout        which bit is which unit of which nonlinearity
    input_shape   shape of a point, without the batch axis
    output_shape  shape of the output for one point, or None when it is not one tensor
    """

    def __init__(
        self,
        model: nn.Module,
        sample: Any,
        start: str = "",
        *,
        stop: str = "",
        select: Select = "*",
    ) -> None:
        self.model, self.sample, self.start, self.stop = model, sample, start, stop
        names = {name: module for name, module in model.named_modules()}
        for wanted in (start, stop):
            if wanted not in names:
                raise UsageError(**_no_such_module(wanted, names))
        if model.training:
            raise UsageError("the model is in training mode", fix="call model.eval() first")
        self._modules, self._select = names, select
        self._replay: dict[str, list[Any]] = {}
        self.layout, self.input_shape, self.output_shape = self._discover()

    def run(self, points: Any, reach: Reach, *, output: bool = True) -> Any:
        """Send `points` through the tail; every nonlinearity on the way goes to `reach`.

        points  (n, *input_shape) tensor or carrier
        reach   called once for each nonlinearity in order; what it returns flows on
        output  False ends the forward after the last selected nonlinearity
        returns the model's (or stop's) output, or None when it ended early
        """
        last = None if output or not self.layout.fields else self.layout.fields[-1]
        walk = _Walk(self, points, reach, {(f.module, f.call): f for f in self.layout.fields}, last)
        result = walk.go()
        if len(walk.seen) != len(self.layout.fields):
            missed = next(f for f in self.layout.fields if (f.module, f.call) not in walk.seen)
            raise UsageError(
                f"the nonlinearity {missed.name} was not reached this time",
                why="the model takes another path for these points, so their codes cannot be compared",
            )
        return result

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> "Tail":
        """The same tail of a copy of the model in another dtype and on another device."""
        clone = copy.copy(self)
        clone.model = copy.deepcopy(self.model).to(device=device, dtype=dtype)
        clone._modules = dict(clone.model.named_modules())
        clone.sample = _move(self.sample, dtype, device)
        clone._replay = {k: _move(v, dtype, device) for k, v in self._replay.items()}
        return clone

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's parameters."""
        return next((p.dtype for p in self.model.parameters()), torch.get_default_dtype())

    @property
    def device(self) -> torch.device:
        """The device of the model's parameters."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def _discover(self) -> tuple[Layout, torch.Size, torch.Size | None]:
        found: list[Field] = []

        def note(meeting: Meeting) -> Any:
            if meeting.field is not None:
                found.append(meeting.field)
            return meeting.proceed()

        walk = _Walk(self, None, note, None, None)
        out = walk.go()
        self._replay = walk.recorded
        if walk.entered is None:
            raise UsageError(f"the start module {self.start!r} is not reached by the sample")
        layout = Layout.of(f for f in found if selected(f, self._select))
        if not layout.fields:
            raise UsageError(
                f"no nonlinearity between {self.start or 'the input'!r} and {self.stop or 'the output'!r}",
                why=f"{len(found)} found, none selected by {self._select!r}" if found else "",
                fix="polykern layers MODEL prints what can be selected",
            )
        shape = out.shape[1:] if isinstance(out, Tensor) and out.ndim > 0 else None
        return layout, walk.entered[1:], shape


def selected(field: Field, select: Select) -> bool:
    """Whether a field is chosen by globs over its name or by a predicate."""
    if callable(select):
        return select(field)
    globs = [select] if isinstance(select, str) else select
    return any(fnmatch.fnmatchcase(field.name, g) or fnmatch.fnmatchcase(field.module, g) for g in globs)


class _Finished(Exception):
    """Ends a forward; carries its output."""

    def __init__(self, output: Any) -> None:
        self.output = output


class _Walk(TorchFunctionMode):
    """One forward: where it is, what it has met."""

    def __init__(
        self,
        tail: Tail,
        points: Any,
        reach: Reach,
        fields: Mapping[tuple[str, int], Field] | None,
        last: Field | None,
    ) -> None:
        super().__init__()
        self.tail, self.points, self.reach, self.fields, self.last = (
            tail,
            points,
            reach,
            fields,
            last,
        )
        self.here: list[str] = [""]
        self.inside = False
        self.entered: torch.Size | None = None
        self.seen: set[tuple[str, int]] = set()
        self.calls: Counter[str] = Counter()
        self.recorded: dict[str, list[Any]] = {}
        self.quiet = 0

    def go(self) -> Any:
        """Run the model; give its output, or stop's, or None when ended early."""
        tail = self.tail
        with ExitStack() as stack:
            for name, module in tail._modules.items():
                stack.callback(module.register_forward_pre_hook(self._enter(name), with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(self._leave(name), always_call=True).remove)
                stack.enter_context(self._patched(name, module))
            stack.enter_context(torch.no_grad())
            stack.enter_context(self)
            try:
                return _call(tail.model, tail.sample)
            except _Finished as finished:
                return finished.output

    def _enter(self, name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            self.here.append(name)
            if name != self.tail.start or self.entered is not None:
                return None
            self.inside = True
            given = args[0] if args else next(iter(kwargs.values()))
            self.entered = given.shape
            if self.points is None:
                return None
            if args:
                return (self.points, *args[1:]), kwargs
            return args, {**kwargs, next(iter(kwargs)): self.points}

        return hook

    def _leave(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self.here.pop()
            if not self.inside and self._beside(name):
                self.recorded.setdefault(name, []).append(output)
            if self.inside and self.tail.stop and name == self.tail.stop and output is not None:
                raise _Finished(output)

        return hook

    def _beside(self, name: str) -> bool:
        """Whether the module hangs directly off the path to the start module."""
        parent = name.rpartition(".")[0]
        start = self.tail.start
        leads = parent == "" or start == parent or start.startswith(parent + ".")
        return bool(name) and leads and start != name and not start.startswith(name + ".")

    @contextmanager
    def _patched(self, name: str, module: nn.Module) -> Iterator[None]:
        """Replay modules before the start; treat activations that are written out as one call."""
        original = module.forward
        recorded = self.tail._replay.get(name, ())
        written = MODULES.get(type(module).__name__)
        if not recorded and written is None:
            yield
            return
        left = list(recorded)

        def forward(*args: Any, **kwargs: Any) -> Any:
            if left:
                return _move(left.pop(0))
            if written is None:
                return original(*args, **kwargs)
            return self._meet(written, args[0], lambda: original(*args, **kwargs))

        module.forward = forward
        try:
            yield
        finally:
            del module.forward

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if not self.inside:
            return _invoke(func, args, kwargs)
        if func in (torch.cat, torch.concat):
            args = (_level(args[0], kwargs.get("dim", args[1] if len(args) > 1 else 0)), *args[1:])
        if func in (Tensor.add_, Tensor.__iadd__) and _grows(*args[:2]):
            func = torch.add  # `x += y` binds the name to what is returned
        activation = None if self.quiet else recognise(func, args, kwargs)
        if activation is None:
            return _invoke(func, args, kwargs)
        out = self._meet(activation, args[0], lambda: _invoke(func, args, kwargs))
        if in_place(func, args, kwargs) and hasattr(args[0], "become"):
            args[0].become(out)
        return out

    def _meet(self, activation: Activation, z: Any, proceed: Callable[[], Any]) -> Any:
        if not self.inside or self.quiet:
            return proceed()
        module = self.here[-1]
        call = self.calls[module]
        self.calls[module] += 1
        field: Field | None
        if self.fields is None:
            field = Field(module, call, activation.kind, tuple(z.shape[1:]), activation.thresholds, 0)
        else:
            field = self.fields.get((module, call))
            if field is not None:
                self.seen.add((module, call))
                if tuple(z.shape[1:]) != field.shape:
                    raise UsageError(f"{field.name} has shape {list(z.shape[1:])}, earlier {list(field.shape)}")
        if isinstance(z, Tensor) and isinstance(self.points, Tensor) and len(z) == 1 < len(self.points):
            z = z.expand(len(self.points), *z.shape[1:])  # a branch beside the start: the same for every point
        self.quiet += 1  # an activation's own arithmetic is not met again
        try:
            out = self.reach(Meeting(field, activation, z, proceed))
        finally:
            self.quiet -= 1
        if self.last is not None and field == self.last:
            raise _Finished(None)
        return out


def _invoke(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a torch function; methods of Tensor do not accept a carrier as self, so those go to it directly."""
    if args and isinstance(args[0], Carrier):
        return type(args[0]).__torch_function__(func, (type(args[0]),), args, kwargs)
    return func(*args, **kwargs)


def _level(parts: Sequence[Any], dim: int) -> Sequence[Any]:
    """Branches that were computed once, for one sample, are repeated to the batch of the others."""
    rows = max(p.shape[0] for p in parts)
    if dim == 0 or all(p.shape[0] == rows for p in parts) or not all(isinstance(p, Tensor) for p in parts):
        return parts
    return [p.expand(rows, *p.shape[1:]) if p.shape[0] == 1 else p for p in parts]


def _grows(x: Any, y: Any) -> bool:
    """Whether x, computed once for one sample, meets a batch of points in y."""
    return all(isinstance(t, Tensor) and t.ndim > 0 for t in (x, y)) and len(x) == 1 < len(y)


def _call(model: nn.Module, sample: Any) -> Any:
    if isinstance(sample, Mapping):
        return model(**sample)
    return model(*sample) if isinstance(sample, tuple) else model(sample)


def _move(x: Any, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Any:
    """A fresh copy of nested tensors, floating ones in `dtype`."""
    if isinstance(x, Tensor):
        wanted = dtype if dtype is not None and x.is_floating_point() else x.dtype
        return x.detach().to(device=device or x.device, dtype=wanted, copy=True)
    if isinstance(x, Mapping):
        return {k: _move(v, dtype, device) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x)(_move(v, dtype, device) for v in x)
    return x


def _no_such_module(wanted: str, names: Mapping[str, Any]) -> dict[str, str]:
    near = get_close_matches(wanted, [n for n in names if n], n=3, cutoff=0.4)
    return {
        "what": f"the model has no module {wanted!r}",
        "fix": f"nearest names: {', '.join(near)}" if near else "polykern layers MODEL lists them",
    }

"""Tails: the part of a model behind the input of one of its modules.

The model stays as it is. A pre-hook swaps a batch of points in for the input of the start module; what lies
before it runs once, for one sample, and is replayed afterwards; a TorchFunctionMode meets every nonlinearity
behind it, functional or module, and hands it to the caller with its place in the code; an exception ends
the forward after the last wanted module. The points may be tensors or any `polykern.carrier.Carrier`.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from polykern.activations import MODULES, Activation
from polykern.carrier import Carrier, NotCarried
from polykern.errors import UsageError
from polykern.layout import Field, Layout
from polykern.selectors import Select as Select
from polykern.selectors import lens_name, matches, require_used
from polykern.walk import Finished, Walk, modules_of, outputs_of
from polykern.wrappers import moved, network


@dataclass(frozen=True, slots=True)
class Meeting:
    """A nonlinearity met on the way.

    field       its bits in the code, or None when it is not selected
    activation  what it does
    z           its pre-activation, batch first; a plain tensor, of one row when the points are a carrier, where
                it does not depend on the points
    proceed     runs the original call and gives its result
    """

    field: Field | None
    activation: Activation
    z: Any
    proceed: Callable[[], Any]


Reach = Callable[[Meeting], Any]  # takes a meeting, gives the activated value
Called = Callable[[Any, str, Sequence[Any], Mapping[str, Any]], None]


class Tail:
    """A model from the input of `start` to the output of `stop`.

    model   any nn.Module in eval mode, also in a wrapper of nnsight (`polykern.wrappers`); it is not changed
    sample  inputs of the model for one item: a tensor, a tuple of positional or a dict of keyword arguments
    start   dotted name of the module whose input the points replace; "" = the model itself
    stop    dotted name of the module after whose output the forward ends; "" = the model's output
    select  which nonlinearities make the code (`polykern.selectors`)

    layout        which bit is which unit of which nonlinearity
    input_shape   shape of a point, without the batch axis
    output_shape  shape of the output for one point, or None when it is not one tensor
    """

    def __init__(
        self,
        model: Any,
        sample: Any,
        start: str = "",
        *,
        stop: str = "",
        select: Select = "*",
    ) -> None:
        self.model, self.sample, self.start, self.stop = network(model), sample, start, stop
        self._modules, self._select = modules_of(self.model, start, stop), select
        self._replay: dict[str, list[Any]] = {}
        self.layout, self.input_shape, self.output_shape = self._discover()

    def run(
        self, points: Any, reach: Reach, *, output: bool = True, called: Called | None = None, graph: bool = False
    ) -> Any:
        """Send `points` through the tail; every nonlinearity on the way goes to `reach`.

        points  (n, *input_shape) tensor or carrier
        reach   called once for each nonlinearity in order; what it returns flows on
        output  False ends the forward after the last selected nonlinearity
        called  if given, sees every other torch call: func, module it is called in, args, kwargs
        graph   keep autograd's graph, for derivatives backwards; those forwards need none
        returns the model's (or stop's) output, or None when it ended early
        """
        last = None if output or not self.layout.fields else self.layout.fields[-1]
        walk = _TailWalk(self, points, reach, {(f.module, f.call): f for f in self.layout.fields}, last, called)
        result = walk.go(graph=graph)
        if len(walk.seen) != len(self.layout.fields):
            missed = next(f for f in self.layout.fields if (f.module, f.call) not in walk.seen)
            raise UsageError(
                f"the nonlinearity {missed.name} was not reached this time",
                why="the model takes another path for these points, so their codes cannot be compared",
            )
        return result

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> "Tail":
        """The same tail of a copy of the model in another dtype and on another device."""
        clone = self._of(moved(copy.deepcopy(self.model), device, dtype))
        clone.sample = _move(self.sample, dtype, device)
        clone._replay = {k: _move(v, dtype, device) for k, v in self._replay.items()}
        return clone

    def twin(self) -> "Tail":
        """The same tail with modules of its own and the same parameters, to run in another thread."""
        kept = [*self.model.parameters(), *self.model.buffers()]
        return self._of(copy.deepcopy(self.model, {id(t): t for t in kept}))

    def _of(self, model: nn.Module) -> "Tail":
        clone = copy.copy(self)
        clone.model = model
        clone._modules = dict(model.named_modules())
        return clone

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's parameters."""
        return next((p.dtype for p in self.model.parameters()), torch.get_default_dtype())

    @property
    def device(self) -> torch.device:
        """The device of the model's parameters."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def taken(self, points: Tensor) -> Tensor:
        """A copy of points (n, *shape) on its device, in its dtype unless they are whole numbers."""
        dtype = self.dtype if points.is_floating_point() else points.dtype
        return points.detach().to(self.device, dtype, copy=True)

    def _discover(self) -> tuple[Layout, torch.Size, torch.Size | None]:
        found: list[Field] = []

        def note(meeting: Meeting) -> Any:
            if meeting.field is not None:
                found.append(meeting.field)
            return meeting.proceed()

        walk = _TailWalk(self, None, note, None, None, None)
        out = walk.go()
        self._replay = walk.recorded
        walk.require_whole()
        if not found:
            raise UsageError(
                f"no nonlinearity between {self.start or 'the input'!r} and {self.stop or 'the output'!r}",
                fix="polykern layers MODEL prints what there is",
            )
        require_used(found, self._select)
        layout = Layout.of(f for f in found if matches(f, self._select))
        shape = out.shape[1:] if isinstance(out, Tensor) and out.ndim > 0 else None
        return layout, walk.entrance[1:], shape


def tail_of(model: Any, points: Tensor, select: Select = "*") -> Tail:
    """A model as a `Tail`: itself where it is one, else from its own input on.

    model   a `Tail`, or what a `Tail` is made of
    points  (n, *shape), what the model reads
    select  of a model: which nonlinearities make the code
    """
    if isinstance(model, Tail):
        return model
    one = points[:1] if len(points) else points.new_zeros(1, *points.shape[1:])
    parameter = next(network(model).parameters(), one)
    dtype = parameter.dtype if one.is_floating_point() else one.dtype
    return Tail(model, one.to(parameter.device, dtype, copy=True), select=select)


def layers_table(
    model: nn.Module, sample: Any, start: str = "", stop: str = "", select: Select = "*"
) -> list[dict[str, Any]]:
    """The nonlinearities of a model, a row each: what a selector can name and where its bits lie.

    model, sample, start, stop, select  as in `Tail`
    returns  rows of module, call, name, lens (TransformerLens name or None), kind, shape, thresholds, bits, offset

    Errors: UsageError as in `Tail`.
    """
    return [
        {
            "module": f.module,
            "call": f.call,
            "name": f.name,
            "lens": lens_name(f),
            "kind": f.kind,
            "shape": list(f.shape),
            "thresholds": list(f.thresholds),
            "bits": f.bits,
            "offset": f.offset,
        }
        for f in Tail(model, sample, start, stop=stop, select=select).layout.fields
    ]


class _TailWalk(Walk):
    """One forward behind the start module, with points in place of its input."""

    def __init__(
        self,
        tail: Tail,
        points: Any,
        reach: Reach,
        fields: Mapping[tuple[str, int], Field] | None,
        last: Field | None,
        called: Called | None,
    ) -> None:
        super().__init__(tail._modules, tail.start, tail.stop)
        self.tail, self.points, self.reach = tail, points, reach
        self.fields, self.last, self.see = fields, last, called
        self.entrance = torch.Size()
        self.seen: set[tuple[str, int]] = set()
        self.recorded: dict[str, list[Any]] = {}  # outputs, and inputs where a module overwrites them
        self.versions: list[int | None] = []  # how often the input of each open module had been overwritten

    def go(self, *, graph: bool = False) -> Any:
        """Run the model; give its output, or stop's, or None when ended early."""
        with ExitStack() as stack:
            for name, module in self.modules.items():
                stack.enter_context(self._patched(name, module))
            self.watch(stack)
            stack.enter_context(torch.set_grad_enabled(graph))
            try:
                return outputs_of(self.tail.model, self.tail.sample)
            except Finished as finished:
                return finished.output
            except (RuntimeError, TypeError) as error:  # of a library that looks at types itself
                if isinstance(self.points, Carrier) and type(self.points).__name__ in str(error):
                    raise NotCarried(str(error).splitlines()[0]) from error
                raise

    def began(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = args[0] if args else next(iter(kwargs.values()))
        self.entrance = given.shape
        if self.points is None:
            return None
        if args:
            return (self.points, *args[1:]), kwargs
        return args, {**kwargs, next(iter(kwargs)): self.points}

    def entering(self, name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.versions.append(_version(args))

    def leaving(self, name: str, args: tuple[Any, ...], output: Any) -> None:
        overwritten = self.versions.pop() != _version(args)
        if not self.inside and self._beside(name) and output is not None:
            record = (output, args[0] if overwritten else None)
            self.recorded.setdefault(name, []).append(_move(record))  # later calls may overwrite them
        if self.stopped and name == self.stop and output is not None:
            raise Finished(output)

    def reached(self, field: Field, activation: Activation, z: Any, proceed: Callable[[], Any]) -> Any:
        known: Field | None = field
        if self.fields is not None:
            known = self.fields.get((field.module, field.call))
        if known is not None:
            self.seen.add((field.module, field.call))
            if known.shape != field.shape:
                raise UsageError(f"{field.name} has shape {list(field.shape)}, earlier {list(known.shape)}")
        if isinstance(z, Tensor) and isinstance(self.points, Tensor) and len(z) == 1 < len(self.points):
            z = z.expand(len(self.points), *z.shape[1:])  # a branch beside the start: the same for every point
        out = self.reach(Meeting(known, activation, z, proceed))
        if self.last is not None and known == self.last:
            raise Finished(None)
        return out

    def called(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Sequence[Any]]:
        if self.see is not None:
            self.see(func, self.here[-1], args, kwargs)
        if func in (torch.cat, torch.concat):
            args = (_level(args[0], kwargs.get("dim", args[1] if len(args) > 1 else 0)), *args[1:])
        if func in (Tensor.add_, Tensor.__iadd__) and _grows(*args[:2]):
            func = torch.add  # `x += y` binds the name to what is returned
        return func, args

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
                output, overwritten = _move(left.pop(0))
                return output if overwritten is None else _overwrite(args[0], overwritten, output)
            if written is None:
                return original(*args, **kwargs)
            return self.meet(written, args[0], lambda: original(*args, **kwargs))

        module.forward = forward
        try:
            yield
        finally:
            del module.forward


def _level(parts: Sequence[Any], dim: int) -> Sequence[Any]:
    """Branches that were computed once, for one sample, are repeated to the batch of the others."""
    rows = max(p.shape[0] for p in parts)
    if dim == 0 or all(p.shape[0] == rows for p in parts) or not all(isinstance(p, Tensor) for p in parts):
        return parts
    return [p.expand(rows, *p.shape[1:]) if p.shape[0] == 1 else p for p in parts]


def _grows(x: Any, y: Any) -> bool:
    """Whether x, computed once for one sample, meets a batch of points in y."""
    return all(isinstance(t, Tensor) and t.ndim > 0 for t in (x, y)) and len(x) == 1 < len(y)


def _version(args: tuple[Any, ...]) -> int | None:
    """How often the first argument has been overwritten."""
    x = args[0] if args else None
    return x._version if isinstance(x, Tensor) and not x.is_inference() else None


def _overwrite(x: Tensor, value: Tensor, output: Any) -> Any:
    """Replay a module that overwrites its input, and often gives that as its output."""
    x.copy_(value)
    return x if isinstance(output, Tensor) and torch.equal(output, value) else output


def _move(x: Any, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Any:
    """A fresh copy of nested tensors, floating ones in `dtype`."""
    if isinstance(x, Tensor):
        wanted = dtype if dtype is not None and x.is_floating_point() else x.dtype
        return x.detach().to(device=device or x.device, dtype=wanted, copy=True)
    if isinstance(x, Mapping):
        items = {k: _move(v, dtype, device) for k, v in x.items()}
        return type(x)(**items) if is_dataclass(x) else items  # the outputs of transformers are dataclasses
    if isinstance(x, (list, tuple)):
        values = [_move(v, dtype, device) for v in x]
        return type(x)(*values) if hasattr(x, "_fields") else type(x)(values)  # named tuples take them apart
    return x

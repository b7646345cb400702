"""Walks: one forward pass of an unmodified model, watched.

Hooks say which module the pass is in, a TorchFunctionMode meets every nonlinearity, functional or module, once:
torch.fx cannot read Hugging Face's models, hooks alone miss `F.relu`. A nonlinearity is known by the module that
calls it and the number of the call inside that module.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from difflib import get_close_matches
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from polykern.activations import FUNCTIONS, RECOGNISERS, Activation, in_place, recognise
from polykern.carrier import Carrier
from polykern.errors import UsageError
from polykern.layout import Field


class Finished(Exception):
    """Ends a forward pass before its end; carries its output."""

    def __init__(self, output: Any) -> None:
        self.output = output


class Walk(TorchFunctionMode):
    """A watch on the forward passes of a model, between the input of `start` and the output of `stop`.

    modules  dotted name -> module, "" the model itself
    start    module at whose input the watch begins
    stop     module after whose output it ends; "" = the model's output

    Subclasses say what happens at each event: `outermost`, `began`, `entering`, `leaving`, `reached`, `called`.
    """

    def __init__(self, modules: Mapping[str, nn.Module], start: str, stop: str) -> None:
        super().__init__()
        self.modules, self.start, self.stop = modules, start, stop
        self.rewind()

    def rewind(self) -> None:
        """Forget the last pass."""
        self.here: list[str] = [""]
        self.inside = self.entered = self.stopped = False
        self.calls: Counter[Any] = Counter()
        self.quiet = 0

    def watch(self, stack: ExitStack) -> None:
        """Hook every module until the stack closes."""
        for name, module in self.modules.items():
            stack.callback(module.register_forward_pre_hook(self._enter(name), with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(self._leave(name), always_call=True).remove)
            held = vars(module).get("act_fn")
            if isinstance(held, FunctionType) and held.__name__ in FUNCTIONS:
                module.act_fn = self._written(held)  # type: ignore[assignment]
                stack.callback(setattr, module, "act_fn", held)
        stack.enter_context(self)

    # --- events ---------------------------------------------------------------------------------

    def outermost(self, name: str) -> None:
        """A pass begins: a module is called that no other module calls."""

    def began(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The start module is called with these; gives what it gets instead, or None."""

    def entering(self, name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module is called."""

    def leaving(self, name: str, args: tuple[Any, ...], output: Any) -> None:
        """A module is done; output is None when it raised."""

    def reached(self, field: Field, activation: Activation, z: Any, proceed: Callable[[], Any]) -> Any:
        """A nonlinearity is met; gives what flows on."""
        return proceed()

    def called(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Sequence[Any]]:
        """Any other torch call behind the start; gives what is called instead, with which arguments."""
        return func, args

    def require_whole(self) -> None:
        """Raise `UsageError` when the pass has missed the start or the stop."""
        if not self.entered:
            raise UsageError(f"the start module {self.start!r} is not reached")
        if self.stop and not self.stopped:
            raise UsageError(f"the stop module {self.stop!r} is not reached behind {self.start or 'the input'!r}")

    # --- machinery --------------------------------------------------------------------------------

    def _written(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A function that writes a nonlinearity out in arithmetic, met as one call."""
        return lambda z: self.meet(FUNCTIONS[function.__name__], z, lambda: function(z))

    def _enter(self, name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            self.here.append(name)
            if len(self.here) == 2:
                self.outermost(name)
            changed = None
            if name == self.start and not self.entered:
                self.inside = self.entered = True
                changed = self.began(args, kwargs)
            self.entering(name, module, args)
            return changed

        return hook

    def _leave(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self.here.pop()
            self.stopped |= bool(self.stop) and self.inside and name == self.stop
            self.leaving(name, args, output)

        return hook

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if not self.inside or self.quiet:
            return _invoke(func, args, kwargs)
        if (
            func in RECOGNISERS and not args and "input" in kwargs
        ):  # torch's own functions hand a keyword on as it came
            args = (kwargs.pop("input"),)
        activation = recognise(func, args, kwargs)
        if activation is None:
            func, args = self.called(func, args, kwargs)
            return _invoke(func, args, kwargs)
        out = self.meet(activation, args[0], lambda: _invoke(func, args, kwargs))
        if in_place(func, args, kwargs) and hasattr(args[0], "become"):
            args[0].become(out)
        return out

    def meet(self, activation: Activation, z: Any, proceed: Callable[[], Any]) -> Any:
        """Name a nonlinearity, number its call and hand it to `reached`."""
        if not self.inside or self.quiet:
            return proceed()
        module = self.here[-1]
        field = Field(module, self.calls[module], activation.kind, tuple(z.shape[1:]), activation.thresholds, 0)
        self.calls[module] += 1
        self.quiet += 1  # an activation's own arithmetic is not met again
        try:
            return self.reached(field, activation, z, proceed)
        finally:
            self.quiet -= 1


def _invoke(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a torch function; methods of Tensor do not accept a carrier as self, so those go to it directly."""
    if args and isinstance(args[0], Carrier):
        return type(args[0]).__torch_function__(func, (type(args[0]),), args, kwargs)
    return func(*args, **kwargs)


def modules_of(model: nn.Module, *wanted: str) -> dict[str, nn.Module]:
    """Dotted name -> module of a model in eval mode; every wanted name must be among them."""
    names = dict(model.named_modules())
    for name in wanted:
        if name not in names:
            near = get_close_matches(name, [n for n in names if n], n=3, cutoff=0.4)
            raise UsageError(
                f"the model has no module {name!r}",
                fix=f"nearest names: {', '.join(near)}" if near else "polykern layers MODEL lists them",
            )
    if model.training:
        raise UsageError("the model is in training mode", fix="call model.eval() first")
    for name, module in names.items():
        if module.training and isinstance(module, (_NormBase, _DropoutNd)):
            raise UsageError(
                f"{name} is in training mode", why="codes would depend on the batch", fix="call model.eval() first"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise UsageError(
                f"{name or 'the model'} is compiled by TorchScript, which hides its nonlinearities",
                fix="pass the Python module it was made from",
            )
        if type(module).__name__ == "OptimizedModule":
            raise UsageError("the model is compiled by torch.compile", fix="pass the module it was made from")
    return names


def outputs_of(model: nn.Module, given: Any) -> Any:
    """What a model gives for its inputs: a tensor, a tuple of positional or a mapping of keyword arguments."""
    if isinstance(given, Mapping):
        return model(**given)
    return model(*given) if isinstance(given, tuple) else model(given)

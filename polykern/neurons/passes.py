"""Forward passes of which the inputs and outputs of some modules are kept, on the device of the model.

A pass ends where the last of them has been met. Nothing waits for the device, nothing is copied from it.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from polykern.arithmetic import ieee
from polykern.capturing.watch import INPUT, OUTPUT
from polykern.errors import UsageError
from polykern.walk import modules_of


class _Enough(Exception):
    """All that was wanted has been met."""


def taken(model: nn.Module, inputs: dict[str, Any], names: Collection[str]) -> dict[str, Tensor]:
    """What modules took and gave in one pass.

    model   in eval mode
    inputs  keyword arguments
    names   input:MODULE, its first input, or output:MODULE

    Returns by name float (n, width): all axes before the last are one. Raises UsageError for a module that there is
    not, or one that the pass does not meet.
    """
    found: dict[str, Tensor] = {}
    wanted = set(names)
    hooks = [_hooked(model, name, found, wanted) for name in sorted(wanted)]
    try:
        with ieee(), torch.no_grad():
            model(**inputs)
    except _Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    if missing := sorted(wanted - set(found)):
        raise UsageError(f"a pass through the model does not meet {missing[0].partition(':')[2]}")
    return found


def _hooked(model: nn.Module, name: str, found: dict[str, Tensor], wanted: set[str]) -> Any:
    place, _, module = name.partition(":")
    if f"{place}:" not in (INPUT, OUTPUT):
        raise UsageError(f"no site {name!r}", fix=f"write {INPUT}MODULE or {OUTPUT}MODULE")
    where = modules_of(model, module)[module]

    def note(value: Any) -> None:
        value = value if isinstance(value, Tensor) else value[0]
        found[name] = value.detach().flatten(0, -2)
        if len(found) == len(wanted):
            raise _Enough

    if f"{place}:" == INPUT:
        return where.register_forward_pre_hook(lambda module, args: note(args[0]))
    return where.register_forward_hook(lambda module, args, output: note(output))

"""The reference pages of the public names, written from the packages themselves.

    names  `polykern.__all__`, and what a module beside them gives to whoever imports it
    pages  one for each module of `polykern`, one for each family of `polykern_kernels`

A public name of a module is a function or class without an underscore that is defined in it or below it. What is in
`polykern.__all__` is written as `polykern.NAME`, wherever it is defined.
"""

import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from pages import heading, put, summary
from plain import inline

LEFT_OUT = {"cli", "__main__"}  # the command line has its own pages


def modules() -> Iterator[ModuleType]:
    """The modules right below `polykern` that have something public."""
    import polykern

    for found in pkgutil.iter_modules(polykern.__path__, "polykern."):
        stem = found.name.rpartition(".")[2]
        if stem not in LEFT_OUT and not stem.startswith("_"):
            module = import_module(found.name)
            if documented(module):
                yield module


def families() -> Iterator[ModuleType]:
    """The families of kernels."""
    import polykern_kernels

    for name in polykern_kernels.__all__:
        if inspect.ismodule(module := getattr(polykern_kernels, name)):
            yield module


def documented(module: ModuleType) -> list[str]:
    """Full names of the public functions and classes of a module, those that `polykern` itself gives first."""
    import polykern

    first = [f"polykern.{name}" for name in polykern.__all__ if _lies(getattr(polykern, name), module)]
    taken = {name.rpartition(".")[2] for name in first}
    return first + [f"{module.__name__}.{name}" for name in own(module) if name not in taken]


def own(module: ModuleType) -> list[str]:
    """Public functions and classes defined in a module, or below it where it is a package, by name."""
    return sorted(name for name, value in vars(module).items() if not name.startswith("_") and _lies(value, module))


def _lies(value: object, module: ModuleType) -> bool:
    """Whether a function or a class is defined in a module or below it."""
    where = getattr(value, "__module__", None) or ""
    callable_ = inspect.isfunction(value) or inspect.isclass(value)
    return callable_ and f"{where}.".startswith(f"{module.__name__}.")


def write(folder: Path) -> None:
    """Write the pages and their index into a folder.

    folder  made where it is missing; files that stay the same are left alone, others of its pages are removed
    """
    import polykern
    import polykern_kernels

    engine = {module.__name__: _page(module, documented(module)) for module in modules()}
    kernels = {module.__name__: _page(module, of_family(module)) for module in families()}
    lines = [*heading("polykern"), "", *summary(polykern), ""]
    lines += _table((f":py:obj:`{name} <polykern.{name}>`", f"polykern.{name}") for name in _exported())
    lines += [*heading("Modules", "-"), ""]
    lines += _table((f":doc:`{name}`", name) for name in engine)
    lines += [".. toctree::", "   :hidden:", "", *(f"   {name}" for name in engine)]
    put(folder / "api", {"index": lines, **engine})
    lines = [*heading("polykern_kernels"), "", *summary(polykern_kernels), ""]
    lines += _table((f":doc:`{name}`", name) for name in kernels)
    lines += [".. toctree::", "   :hidden:", "", *(f"   {name}" for name in kernels)]
    put(folder / "kernels", {"index": lines, **kernels})


def _exported() -> list[str]:
    """The names of `polykern.__all__` that are functions or classes."""
    import polykern

    values = ((name, getattr(polykern, name)) for name in polykern.__all__)
    return [name for name, value in values if inspect.isfunction(value) or inspect.isclass(value)]


def _table(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Links beside the first paragraph of what they lead to."""
    yield from (".. list-table::", "   :class: names", "   :widths: auto", "")
    for link, name in rows:
        yield from (f"   * - {link}", f"     - {_first(name)}")
    yield ""


def of_family(module: ModuleType) -> list[str]:
    """Full names of the public functions and classes of a family of kernels."""
    return [f"{module.__name__}.{name}" for name in own(module)]


def _page(module: ModuleType, names: list[str]) -> list[str]:
    lines = [*heading(module.__name__), "", f".. automodule:: {module.__name__}", ""]
    for name in names:
        it = value(name)
        kind = "class" if inspect.isclass(it) else "function"
        lines += [f".. auto{kind}:: {name}", *(["   :members:"] if kind == "class" else []), ""]
    return lines


def value(name: str) -> object:
    """What a full name stands for: a module, or an attribute of one."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except AttributeError:
        return import_module(name)


def _first(name: str) -> str:
    """The first paragraph of what a name says of itself."""
    return inline((inspect.getdoc(value(name)) or "").split("\n\n")[0])

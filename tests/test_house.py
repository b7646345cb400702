"""The house rules that a machine can read: sizes, docstrings, nothing that runs data, nothing of one machine."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from polykern.maps.result import HeatMap
from polykern.plane import Grid, Plane
from polykern.tail import Tail

ROOT = Path(__file__).parents[1]
PRODUCT = ("polykern", "kernels")
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 50
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Every Python file below the folders: its path from the root, and its tree."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def everything() -> Iterator[tuple[str, ast.Module]]:
    return sources(*PRODUCT, "benches", "tests", "docs")


def require_none(offenders: list[str]) -> None:
    """Fail with every offender on a line of its own."""
    assert not offenders, "\n" + "\n".join(offenders)


# --- sizes ---------------------------------------------------------------------------------------


def compiled(function: Function) -> bool:
    """Whether a decorator hands the body to Triton or to numba."""
    return any("jit" in ast.unparse(d) or "intrinsic" in ast.unparse(d) for d in function.decorator_list)


def length(function: Function) -> int:
    """Lines of the body: the signature and the docstring are not counted."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return 0 if not body else (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1


def too_long(path: str, tree: ast.AST) -> list[str]:
    """Functions over the limit, those inside others too; compiled ones are left out with all they hold."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            if compiled(node):
                continue
            if length(node) > MOST_LINES_OF_A_FUNCTION:
                found.append(f"{path}:{node.lineno} {node.name}: {length(node)} lines")
        found += too_long(path, node)
    return found


def test_no_file_is_long() -> None:
    lengths = {p: len((ROOT / p).read_text(encoding="utf-8").splitlines()) for p, _ in everything()}
    require_none([f"{p}: {n} lines" for p, n in lengths.items() if n > MOST_LINES])


def test_no_function_is_long() -> None:
    require_none([line for path, tree in everything() for line in too_long(path, tree)])


@pytest.mark.parametrize(("decorator", "noticed"), [("", True), ("@njit(cache=True)\n", False)])
def test_a_long_function_would_be_noticed(decorator: str, noticed: bool) -> None:
    body = "    x = 1\n" * (MOST_LINES_OF_A_FUNCTION + 1)
    tree = ast.parse(f'{decorator}def f():\n    """What it gives."""\n{body}')
    assert bool(too_long("f.py", tree)) == noticed


# --- docstrings ----------------------------------------------------------------------------------


def undocumented(path: str, tree: ast.Module) -> list[str]:
    """The module, and its public functions and classes, that have no docstring.

    Compiled code and its launchers say nothing twice: their contract is the family's.
    """
    found = [] if ast.get_docstring(tree) or not tree.body else [f"{path}: the module"]
    for node in () if {"device", "_numba"} & set(Path(path).parts) else tree.body:
        if isinstance(node, Function | ast.ClassDef) and not (node.name.startswith("_") or ast.get_docstring(node)):
            found.append(f"{path}:{node.lineno} {node.name}")
    return found


def test_whatever_is_public_says_what_it_gives() -> None:
    require_none([line for path, tree in sources(*PRODUCT) for line in undocumented(path, tree)])


def test_a_missing_docstring_would_be_noticed() -> None:
    tree = ast.parse("def f(): ...\ndef _g(): ...\nclass C: ...")
    assert undocumented("m.py", tree) == ["m.py: the module", "m.py:1 f", "m.py:3 C"]
    assert undocumented("device/m.py", tree) == ["device/m.py: the module"]


# --- data is never code ----------------------------------------------------------------------------

UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "torch.hub.load"}
UNSAFE_KEYWORDS = {"allow_pickle", "trust_remote_code", "shell"}


def unsafe(path: str, tree: ast.Module) -> list[str]:
    """Imports and calls that could run what a file holds."""
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module and node.module.split(".")[0] in UNSAFE_MODULES else []
        elif isinstance(node, ast.Call):
            names = unsafe_call(node)
        found += [f"{path}:{node.lineno} {name}" for name in names if isinstance(node, ast.stmt | ast.expr)]
    return found


def unsafe_call(call: ast.Call) -> list[str]:
    name = ast.unparse(call.func)
    given = {k.arg: ast.unparse(k.value) for k in call.keywords if k.arg is not None}
    found = [name] if name in UNSAFE_CALLS else []
    if name == "torch.load" and given.get("weights_only") != "True":
        found.append("torch.load without weights_only=True")
    return found + [f"{name}({k}={v})" for k, v in given.items() if k in UNSAFE_KEYWORDS and v != "False"]


def test_data_is_never_code() -> None:
    require_none([line for path, tree in sources(*PRODUCT, "benches") for line in unsafe(path, tree)])


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=flag)",
        "subprocess.run(line, shell=True)",
        "yaml.load(text)",
    ],
)
def test_unsafe_code_would_be_noticed(line: str) -> None:
    assert len(unsafe("m.py", ast.parse(line))) == 1


def test_safe_code_passes() -> None:
    lines = "model.eval()\ntorch.load(p, weights_only=True)\nnp.load(p, allow_pickle=False)\nre.compile(p)\n"
    assert unsafe("m.py", ast.parse(lines)) == []


# --- nothing of one machine ------------------------------------------------------------------------

FOREIGN = re.compile(
    r"/(?:root|work|opt|Users)/|/home/\w|/tmp/\w|[A-Z]:\\Users"
    r"|\bpypi\.org|pythonhosted\.org|download\.pytorch\.org|registry\.npmjs\.org|conda\.anaconda\.org"
    r"|\bcrates\.io|deb\.debian\.org|\b10\.\d+\.\d+\.\d+\b|\b192\.168\.\d+\.\d+\b"
)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout, so nothing says which files belong to the project")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked():
        if not path.is_file() or b"\0" in (data := path.read_bytes()):
            continue
        for number, line in enumerate(data.decode("utf-8").splitlines(), 1):
            found += [f"{path.relative_to(ROOT)}:{number} {hit}" for hit in FOREIGN.findall(line)]
    require_none(found)


@pytest.mark.parametrize("line", ["cd /ro" + "ot/x", "--index-url https://py" + "pi.org/simple", "10." + "0.0.7"])
def test_a_machine_would_be_noticed(line: str) -> None:
    assert FOREIGN.search(line)


# --- documents -------------------------------------------------------------------------------------

DOCUMENTS = (
    "README.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "ARCHITECTURE.md", "CHANGELOG.md",
    "docs/FORMAT.md", "benches/README.md",
)  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link]
    require_none([link for link in inside if not (path.parent / link).exists()])


def example() -> tuple[str, dict[str, Any]]:
    """docs/FORMAT.md, and the map.json printed in it."""
    text = (ROOT / "docs" / "FORMAT.md").read_text(encoding="utf-8")
    found = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert found
    return text, json.loads(found[1])


def test_the_example_of_the_format_opens(tmp_path: Path) -> None:
    """Beside arrays of the dtypes and shapes in the table of the same page."""
    text, provenance = example()
    del provenance["check"], provenance["files"]  # of arrays that are not printed
    (tmp_path / "map.json").write_text(json.dumps(provenance))
    n, fields = provenance["plane"]["resolution"], len(provenance["model"]["layers"])
    sizes = {"n": n, "n-1": n - 1, "L": fields}
    rows = re.findall(r"^\| `(\w+)\.npy` \| (\w+) \(([^)]*)\)", text, re.MULTILINE)
    assert {name for name, *_ in rows} == {"right", "down", "layers", "smoothed", "margin", "classes"}
    for name, dtype, shape in rows:
        np.save(tmp_path / f"{name}.npy", np.zeros([sizes[s.strip()] for s in shape.split(",")], dtype))
    result = HeatMap.open(tmp_path)
    assert result.classes is not None
    assert result.margin is not None
    assert sum(f["bits"] for f in provenance["model"]["layers"]) == provenance["model"]["bits"]


def keys(x: Any, at: str = "") -> set[str]:
    """Dotted paths of all keys; the entries of a list count as one."""
    if isinstance(x, dict):
        return {at} | {k for name, v in x.items() for k in keys(v, f"{at}.{name}")}
    if isinstance(x, list):
        return {at} | {k for v in x for k in keys(v, f"{at}[]")}
    return {at}


def test_the_writer_writes_what_the_format_says(tmp_path: Path) -> None:
    """The map.json of a small map has the keys of the printed one."""
    from polykern.maps.compute import Recipe, compute

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 4), nn.ReLU6(), nn.Linear(4, 3)).eval()
    tail = Tail(model, torch.zeros(1, 3))
    grid = Grid(plane := Plane.through(torch.eye(3)), plane.window(), 8)
    compute(Recipe(tail, grid, sigma=1.5, engine="tiles"), tmp_path / "map")
    written = json.loads((tmp_path / "map" / "map.json").read_text())
    _, printed = example()
    open_ended = (".arithmetic.tile.", ".model.classes[", ".timings.")
    found, expected = ({k for k in keys(x) if not k.startswith(open_ended)} for x in (written, printed))
    assert found == expected

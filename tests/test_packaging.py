"""What is shipped: the files of the wheel, one version everywhere, a citation that tools can read."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ROOTS = [ROOT / folder for folder in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
SUFFIXES = {".css", ".cu", ".j2", ".js", ".py", ".typed"}
VERSION: str = PROJECT["project"]["version"]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in the wheel that hatchling makes of the tree."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    out = tmp_path_factory.mktemp("dist")
    code = (
        "from hatchling.builders.wheel import WheelBuilder as Builder; "
        f"print(next(Builder({str(ROOT)!r}).build(directory={str(out)!r})))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(done.stdout.strip()) as wheel:
        return set(wheel.namelist())


def tracked(root: Path) -> set[str]:
    """What git has of a package, as the wheel names it."""
    command = ["git", "-C", str(root.parent), "ls-files", "-z", root.name]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout, so nothing says which files belong to the project")
    return {name for name in listed.stdout.split("\0") if name}


def test_the_wheel_has_the_packages_whole_and_nothing_else(shipped: set[str]) -> None:
    about = f"polykern-{VERSION}.dist-info"
    expected = {name for root in ROOTS for name in tracked(root)}
    files = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert shipped == expected | {f"{about}/{name}" for name in files}


def test_assets_lie_inside_the_packages() -> None:
    """Pages, styles and scripts are found beside the code that reads them, in an installed package too."""
    found = {name for root in ROOTS for name in tracked(root)}
    assert {".css", ".j2", ".js", ".typed"} <= {Path(name).suffix for name in found} <= SUFFIXES
    assert not [name for name in found if re.search(r"(^|/)(tests?|docs)/", name)]


def test_one_version_everywhere() -> None:
    import polykern

    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert polykern.__version__ == VERSION
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE).group(1) == VERSION  # type: ignore[union-attr]
    assert f"## {VERSION}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_citation_can_be_read() -> None:
    """What the format 1.2.0 asks for, of the keys that it knows."""
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert found["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(found)
    known = {
        "cff-version", "message", "title", "type", "authors", "version", "license", "abstract", "keywords",
        "references", "date-released", "repository-code", "url", "doi", "identifiers", "preferred-citation",
    }  # fmt: skip
    assert set(found) <= known
    assert found["type"] in ("software", "dataset")
    assert found["license"] == PROJECT["project"]["license"]
    people = [*found["authors"], *(a for r in found["references"] for a in r["authors"])]
    assert all(set(p) == {"name"} or set(p) == {"family-names", "given-names"} for p in people)
    assert all({"type", "title", "authors"} <= set(r) for r in found["references"])


def test_every_extra_is_tried_by_the_script() -> None:
    """.ci/wheel names all of them."""
    script = (ROOT / ".ci" / "wheel").read_text(encoding="utf-8")
    assert [e for e in PROJECT["project"]["optional-dependencies"] if f"[{e}]" not in script] == []


def test_the_import_loads_nothing_but_python() -> None:
    """That it takes some milliseconds follows."""
    code = (
        "import sys; before = set(sys.modules); import polykern; "
        "print(*sorted(m for m in set(sys.modules) - before if m.partition('.')[0] not in sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["polykern"]

"""What the two packages promise at their doors: their names, a light import, no package called kernels."""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("polykern", "polykern_kernels")
HEAVY = (
    "transformers", "torchvision", "cuml", "cupy", "matplotlib", "triton", "numba", "sklearn", "scipy", "kernels",
)  # fmt: skip

WATCHED_IMPORT = """
import importlib, sys

def refuse(event, args):
    if event.startswith("socket."):
        raise RuntimeError(f"the import reaches for the network: {event}")

sys.addaudithook(refuse)
importlib.import_module(sys.argv[1])
sys.exit(" ".join(m for m in sys.argv[2:] if m in sys.modules) or 0)
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_all_names_exist(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__
    assert len(set(module.__all__)) == len(module.__all__)
    missing = [name for name in module.__all__ if getattr(module, name, None) is None]
    assert missing == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_is_hidden_by_a_module(package: str) -> None:
    """A submodule of the name of a function would take its place as soon as it is imported."""
    module = importlib.import_module(package)
    functions = [name for name in module.__all__ if callable(getattr(module, name))]
    hidden = [name for name in functions if importlib.util.find_spec(f"{package}.{name}") is not None]
    assert hidden == []


@pytest.mark.parametrize("package", PACKAGES)
def test_import_is_light_silent_and_offline(package: str) -> None:
    command = [sys.executable, "-P", "-c", WATCHED_IMPORT, package, *HEAVY]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr.strip(), run.returncode) == ("", "", 0)


def test_a_heavy_import_would_be_noticed() -> None:
    command = [sys.executable, "-P", "-c", WATCHED_IMPORT, "scipy", *HEAVY]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.stderr.strip(), run.returncode) == ("scipy", 1)


def test_kernels_is_a_source_root_and_no_package() -> None:
    """An __init__.py there would shadow Hugging Face's `kernels` for whoever works in this folder."""
    assert list((ROOT / "kernels").glob("*.py")) == []
    assert (ROOT / "kernels" / "polykern_kernels" / "__init__.py").is_file()


@pytest.mark.parametrize("folder", ["polykern", "kernels/polykern_kernels"])
def test_the_types_are_shipped(folder: str) -> None:
    assert (ROOT / folder / "py.typed").is_file()

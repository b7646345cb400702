"""The one door to torchvision.

The package index's torchvision is built for CUDA. Beside a CPU torch its compiled operators do not load, and
`import torchvision` ends in "operator torchvision::nms does not exist", because it describes operators that
nobody defined. Networks and their weights need none of them: naming them first lets the import through.
"""

import importlib
import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType

import torch

from polykern.errors import MissingExtra

# the operators that torchvision 0.24 to 0.28 describes while it is imported
_BOXES = ("nms", "qnms")
_POOLS = ("roi_align", "qroi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d")
_SCHEMAS = {name: "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in _BOXES} | {
    name: "(Tensor x) -> Tensor" for pool in _POOLS for name in (pool, f"_{pool}_backward")
}

_named: list[torch.library.Library] = []  # an operator lives as long as the library that defined it


def library() -> ModuleType:
    """The module torchvision, imported even where its compiled operators cannot be loaded.

    Operators that exist are left alone; a missing one is given its name only, so calling it fails as it would
    have failed before. Raises MissingExtra when torchvision is not installed.
    """
    if "torchvision" not in sys.modules:
        spec = importlib.util.find_spec("torchvision")
        if spec is None or not spec.submodule_search_locations:
            raise MissingExtra("the package torchvision is not installed", "vision")
        _load_operators(Path(next(iter(spec.submodule_search_locations))))
        _name_missing_operators()
    return importlib.import_module("torchvision")


def _load_operators(folder: Path) -> None:
    for path in sorted(folder.glob("_C*.so")) + sorted(folder.glob("_C*.pyd")):
        try:
            torch.ops.load_library(str(path))
        except OSError as error:
            logging.getLogger("polykern.models").debug("torchvision's operators do not load: %s", error)


def _name_missing_operators() -> None:
    missing = [name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    if not missing:
        return
    fragment = torch.library.Library("torchvision", "FRAGMENT")
    for name in missing:
        fragment.define(name + _SCHEMAS[name])
    _named.append(fragment)

"""What a command left in a folder, without what is in every folder."""

import json
from pathlib import Path
from typing import Any

INVENTORY = "files", "check"
SETTINGS = "settings.toml"


def told(path: Path) -> dict[str, Any]:
    """What the JSON of a result says, without its inventory."""
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in INVENTORY}


def names(folder: Path) -> set[str]:
    """The files beside the settings."""
    return {p.name for p in folder.iterdir() if p.is_file()} - {SETTINGS}

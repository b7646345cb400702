"""Where polykern keeps what it can make or fetch again."""

import os
from pathlib import Path

HOME = "POLYKERN_CACHE"


def folder() -> Path:
    """The user's cache: $POLYKERN_CACHE, else $XDG_CACHE_HOME/polykern, else ~/.cache/polykern."""
    if own := os.environ.get(HOME):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "polykern"

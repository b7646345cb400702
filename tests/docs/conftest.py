"""The pages of the documentation."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
for folder in (ROOT / "docs" / "extensions", Path(__file__).parent):
    sys.path.insert(0, str(folder))

"""What `pk.complexity` gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from polykern.boundaries.records import Part
from polykern.findings import Findings, Picture, Table


@dataclass(frozen=True, eq=False)
class Complexity(Findings):
    """Measures of how many boundaries a network has where.

    parts  name -> findings of a part, which have records of their own
    """

    parts: Mapping[str, Part]

    SCHEMA: ClassVar[str] = "polykern-complexity/1"

    def numbers(self) -> dict[str, Any]:
        """By part."""
        return {name: part.numbers() for name, part in self.parts.items()}

    def tables(self) -> dict[str, Table]:
        """Those of all parts."""
        return {name: table for part in self.parts.values() for name, table in part.tables().items()}

    def pictures(self) -> dict[str, Picture]:
        """Those of all parts."""
        return {name: picture for part in self.parts.values() for name, picture in part.pictures().items()}

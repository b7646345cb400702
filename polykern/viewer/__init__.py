"""Heat maps to look at: `write` makes a page that opens from a disk, `serve` shows it over loopback."""

from polykern.viewer.page import write as write
from polykern.viewer.server import bound as bound
from polykern.viewer.server import serve as serve

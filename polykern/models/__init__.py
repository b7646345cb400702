"""Models with their examples: what a name, a function or a file stands for."""

from polykern.models.catalogue import KNOWN as KNOWN
from polykern.models.catalogue import load as load
from polykern.models.subject import Example as Example
from polykern.models.subject import Examples as Examples
from polykern.models.subject import Subject as Subject
from polykern.models.subject import digest as digest
from polykern.models.subject import stacked as stacked

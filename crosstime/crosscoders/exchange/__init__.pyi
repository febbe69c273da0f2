"""Public names of `crosstime.exchange`; its `__init__.py` loads them when they are first used."""

from .formats import FORMATS as FORMATS
from .formats import SCALES_NOTE as SCALES_NOTE
from .formats import check_target as check_target
from .formats import detect as detect
from .formats import read as read
from .formats import write as write
from .readout import read_readout as read_readout

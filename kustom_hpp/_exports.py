"""All public names of the package: those in the `__all__` of the modules below."""

from typing import TYPE_CHECKING

from kustom_hpp._messages import *
from kustom_hpp.client import *
from kustom_hpp.config.options import *
from kustom_hpp.errors import *
from kustom_hpp.events import *
from kustom_hpp.models.distributions import *
from kustom_hpp.models.requests import *
from kustom_hpp.models.responses import *
from kustom_hpp.models.urls import *
from kustom_hpp.pace import *
from kustom_hpp.sync import *
from kustom_hpp.transport.base import *
from kustom_hpp.transport.connector import *
from kustom_hpp.transport.fake import *
from kustom_hpp.transport.session_manager import *

if not TYPE_CHECKING:  # type checkers take the names of star imports
    __all__ = sorted(name for name in vars() if name[0].isalpha() and name != "TYPE_CHECKING")  # noqa: PLE0605 - a list

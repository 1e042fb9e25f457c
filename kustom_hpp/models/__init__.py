"""Requests and responses as the API reference spells them: frozen values, no I/O, no codec.

Source: docs.kustom.co, "Create", "Read" and "Distribute an HPP session" (API version 1.1) for every field and enum, unless
a line says otherwise.

A request lists its validation errors (`problems()`: all of them, each with its JSON path) and what is legal but suspicious
(`warnings()`). Neither ever shows a value. A response is tolerant.
"""

from kustom_hpp.models.distributions import *
from kustom_hpp.models.requests import *
from kustom_hpp.models.responses import *
from kustom_hpp.models.urls import *

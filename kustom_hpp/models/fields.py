"""The fields that several models have."""

from collections.abc import Mapping
from typing import Any

from attrs import field

from kustom_hpp._redaction import mask, mask_extra_fields, mask_url


def _copied(value: Any) -> Any:
    """`extra` belongs to the value alone: a plain dict (it pickles, copies and compares), copied at the border."""
    if type(value) is dict:  # nearly always; asking for a Mapping takes ten times as long
        return value.copy()
    return dict(value) if isinstance(value, Mapping) else value


def extra_field() -> Any:
    """`extra`: masked in the repr but for its names."""
    return field(factory=dict, converter=_copied, repr=mask_extra_fields, hash=False)


def response_extra_field() -> Any:
    """`extra` of an answer: the codec makes a dict for it alone."""
    return field(factory=dict, repr=mask_extra_fields, hash=False)


def url_field() -> Any:
    """A URL that may be left out: the query masked in the repr."""
    return field(default=None, repr=mask_url)


def sensitive_field() -> Any:
    """A token or personal data that may be left out: the `repr` tells only whether it is there."""
    return field(default=None, repr=mask)

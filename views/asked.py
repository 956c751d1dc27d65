"""Reads the lists that requests carry in one string: `ids=1,2,3`, `usernames=a,b`."""

from __future__ import annotations

import re

from mesh.errors import InvalidArgument, Violation

MAX_BATCH = 100
"""Resources in one look-up, as the X API has it."""

_USERNAME = re.compile(r"[A-Za-z0-9_]{1,15}")
_ID = re.compile("[0-9]{1,19}")  # int() of thousands of digits is an error of its own
_MAX_ID = 2**63 - 1


def _invalid(parameter: str, message: str) -> InvalidArgument:
    return InvalidArgument(
        "One or more parameters to your request was invalid.", violations=[Violation(parameter, message)]
    )


def _values(text: str, parameter: str) -> list[str]:
    values = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(values) or len(values) > MAX_BATCH:
        raise _invalid(parameter, f"must be 1 to {MAX_BATCH} values, separated by commas")
    return values


def ids(text: str) -> list[int]:
    """The ids, each once, in order. Raises InvalidArgument for what is no id, for none and for over 100."""
    values = _values(text, "ids")
    for value in values:
        if _ID.fullmatch(value) is None or not 0 < int(value) <= _MAX_ID:
            raise _invalid("ids", f"[{value[:32]}] is not a valid id")
    return [int(value) for value in values]


def usernames(text: str) -> list[str]:
    """The names, each once, in order. Raises InvalidArgument for what is no name, for none and for over 100."""
    values = _values(text, "usernames")
    for value in values:
        if _USERNAME.fullmatch(value) is None:
            raise _invalid("usernames", f"[{value[:32]}] is not a valid username")
    return values

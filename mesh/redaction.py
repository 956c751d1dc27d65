"""Keeps secrets and addresses of people out of logs, whoever writes them and however.

Two rules, as neither is enough: members whose names say that they are secret are not written, and neither are pieces of
any text that look like one. What is cut is not needed to find a fault: a log line has a trace id and ids of people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

CUT = "[redacted]"
"""Stands for what was cut."""
_NAMES = re.compile(
    r"passw|secret|token|authorization|cookie|credential|api_?key|private_?key|signature|e_?mail|otp|recovery_code",
    re.IGNORECASE,
)
# Each piece has an end, so that no text, whoever made it, takes long.
_LOCAL = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]"
_TEXTS = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,20}://)[^\s/@]{1,512}(?=@)"  # name and password of a URL
    r"|(?P<word>\b(?:bearer|basic|oauth)\s{1,8})[A-Za-z0-9._~+/=-]{8,}"  # Authorization
    r"|\botpauth://\S+"
    r"|\beyJ[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){1,4}"  # a JWT
    rf"|(?<!{_LOCAL}){_LOCAL}{{1,254}}@[A-Za-z0-9-]{{1,63}}(?:\.[A-Za-z0-9-]{{1,63}}){{1,10}}"  # an e-mail address
    # Anything random and long. A traceparent is long, and no secret.
    r"|(?<![A-Za-z0-9_-])(?![0-9a-f]{2}-[0-9a-f]{32}-)(?=[A-Za-z_-]*[0-9])(?=[0-9_-]*[A-Za-z])[A-Za-z0-9_-]{40,}",
    re.IGNORECASE,
)
_LONGEST = 16_384
_DEEPEST = 8


def redact_text(text: str) -> str:
    """A text without what looks like a secret or an e-mail address, and without its end if it is very long."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return _TEXTS.sub(lambda found: f"{found['scheme'] or found['word'] or ''}{CUT}", text)


def _redacted(value: object, depth: int) -> object:
    if isinstance(value, str):
        return redact_text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= _DEEPEST:
        return CUT
    if isinstance(value, Mapping):
        return {name: _member(str(name), one, depth) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(one, depth + 1) for one in value]
    return redact_text(repr(value))


def _member(name: str, value: object, depth: int) -> object:
    if _NAMES.search(name) and value not in (None, "") and not isinstance(value, bool):
        return CUT
    return _redacted(value, depth + 1)


def redact(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog, the last but for the one that prints."""
    return {name: _member(name, value, 0) for name, value in event.items()}

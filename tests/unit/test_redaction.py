"""What never gets into a log."""

from __future__ import annotations

import json
import logging
import time
from io import StringIO
from typing import Any

import pytest
import structlog

from mesh import server
from mesh.redaction import CUT, redact, redact_text

TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("sent to ada.l+x@mail.example.org now", f"sent to {CUT} now"),
        ("redis://admin:p@ss@host:1/0 is away", f"redis://{CUT}@ss@host:1/0 is away"),
        ("postgresql+asyncpg://u:pw@db/users", f"postgresql+asyncpg://{CUT}@db/users"),
        ("Authorization: Bearer abc.def-ghi", f"Authorization: Bearer {CUT}"),
        ("basic dXNlcjpwYXNz", f"basic {CUT}"),
        ("a eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiI3In0.c2ln b", f"a {CUT} b"),
        (f"token {'0123456789ab' * 8}", f"token {CUT}"),
        ("otpauth://totp/Rookery:ada?secret=JBSWY3DP", CUT),
        ("the code is Zx3_k9-Qw7Er5Ty1Ui8Op2As4Df6Gh0Jk3Lz5Xc7Vb9", f"the code is {CUT}"),
    ],
)
def test_what_looks_like_a_secret_or_an_address_is_cut(text: str, left: str) -> None:
    shown = redact_text(text)
    assert shown == left or (CUT in shown and "p@ss" not in shown)


@pytest.mark.parametrize(
    "text",
    [
        f"trace {TRACE} of a call",
        "unix:///tmp/mesh-a1b2c3/sockets/user.sock",
        "/rookery.user.v1.AuthService/Login failed",
        "an_identifier_of_many_words_and_no_digits_is_no_secret_at_all",
        "382601926778290176 12.5 ms 2026-11-21T18:43:27.744Z",
        "0123456789012345678901234567890123456789012345",
    ],
)
def test_what_finds_a_fault_stays(text: str) -> None:
    assert redact_text(text) == text


def test_members_are_cut_by_their_names_at_any_depth() -> None:
    event = {
        "event": "x",
        "password": "p",
        "request": {"refresh_token": ["t"], "Set-Cookie": "c", "items": [{"client_secret": "s", "id": 7}]},
        "email": "",
        "has_token": True,
        "error": ValueError("to a@b.example.org"),
        "count": 3,
    }
    assert redact(None, "info", dict(event)) == {
        "event": "x",
        "password": CUT,
        "request": {"refresh_token": CUT, "Set-Cookie": CUT, "items": [{"client_secret": CUT, "id": 7}]},
        "email": "",
        "has_token": True,
        "error": f"ValueError('to {CUT}')",
        "count": 3,
    }


@pytest.mark.parametrize("text", ["A" * 10**6, "a.b" * 10**5, "x@" * 10**5, "-_" * 10**5, "eyJ-" * 10**5])
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    assert len(redact_text(text)) < 100_000
    assert time.process_time() - started < 5


def _raise(password: str) -> None:
    token = f"{password} of a local"
    raise RuntimeError(f"no good: {len(token)}, asked by ada@example.org")


@pytest.mark.parametrize("library", [False, True], ids=["structlog", "logging"])
def test_a_traceback_has_no_values_of_variables(monkeypatch: pytest.MonkeyPatch, library: bool) -> None:
    out = StringIO()
    monkeypatch.setattr(server.sys, "stdout", out)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        server.configure_logs("debug")
        log: Any = logging.getLogger("somebody.elses") if library else structlog.get_logger("a.service")
        try:
            _raise("Hidden4Ever")
        except RuntimeError:
            log.exception("it failed for bob@example.org")
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
        structlog.reset_defaults()
    line = json.loads(out.getvalue())
    assert "_raise" in json.dumps(line["exception"])
    for secret in ("Hidden4Ever", "ada@", "bob@"):
        assert secret not in out.getvalue()

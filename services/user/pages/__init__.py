"""The pages that people see when a client asks them to let it in: plain HTML, without a script."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from google.api.httpbody_pb2 import HttpBody

from mesh.context import current

if TYPE_CHECKING:
    from jinja2 import Template

_STYLE = (
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:2rem auto;padding:0 1rem}"
    "input,button{font:inherit;padding:.4rem .6rem}input{width:100%;box-sizing:border-box}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = (
    ("cache-control", "no-store"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
)


@functools.cache
def _template() -> Template:
    import jinja2  # at the first page: a service that shows none starts without it

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string((Path(__file__).parent / "page.html.j2").read_text())


def origin_of(address: str) -> str:
    """Scheme and host of an address, or the scheme alone of one that has no host."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"


def page(step: str, title: str, *, leads_to: str = "", **values: object) -> HttpBody:
    """A page, with headers that let nobody put it into a frame, keep it, or take its forms elsewhere.

    Args:
        step: sign_in, decide or done.
        title: its heading.
        leads_to: the address that its form ends up at; a browser holds redirects of a form to form-action.
        values: of the template.
    """
    form = f"'self' {origin_of(leads_to)}" if leads_to else "'self'"
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {form}; base-uri 'none';"
        " frame-ancestors 'none'"
    )
    current().response_metadata.extend([*_HEADERS, ("content-security-policy", policy)])
    defaults = {
        "error": "",
        "hidden": {},
        "username": "",
        "client": "",
        "scopes": [],
        "target": "",
        "text": "",
        "pin": "",
    }
    text = _template().render({**defaults, **values, "step": step, "title": title, "style": _STYLE})
    return HttpBody(content_type="text/html; charset=utf-8", data=text.encode())


def redirect(address: str) -> HttpBody:
    """Sends the browser to an address, with a GET."""
    current().response_metadata.extend([*_HEADERS, ("x-http-status", "303"), ("location", address)])
    return HttpBody(content_type="text/html; charset=utf-8")

"""What mails say: plain text, and nothing that anybody else chose but the username."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from services.user.store.mails import Letter
from services.user.store.waiting_mails import CHANGED, RESET, VERIFY

_FOOT = "\nThis is an automatic message of Rookery; nobody reads answers to it.\n"
_PROVE = """Hello @{username},

your account says that this e-mail address is yours. Give this token to your app, or
send it as {{"token": ...}} to POST /v1/auth/verify_email, to prove it:

{token}

It is good once, for three days. If you have no such account, do nothing: the address
is not used until it is proven.
"""
_TAKEN = """Hello @{holder},

somebody registered the account @{username} with your e-mail address. You have an account
already, @{holder}. If that was you: log in to @{holder}, or ask for another password if
you forgot it. If it was not, do nothing: nobody but you can prove that the address is theirs.
"""
_RESET = """Hello @{username},

somebody, hopefully you, asked for another password for your account. Give this token to
your app, or send it as {{"token": ..., "new_password": ...}} to POST /v1/auth/password/reset:

{token}

It is good once, for one hour. If it was not you, do nothing: your password stays as it is.
"""
_CHANGED = """Hello @{username},

the password of your account was changed just now, and all other sessions ended. If it
was not you, ask for another password at once: POST /v1/auth/password/forgot.
"""
_TEXTS = {
    VERIFY: ("Prove your e-mail address", _PROVE),
    RESET: ("Choose another password", _RESET),
    CHANGED: ("Your password was changed", _CHANGED),
}


def message(letter: Letter, token: str, sender: str, now_ms: int) -> EmailMessage:
    """A letter as it is sent.

    Args:
        token: in clear; empty for none.
        sender: the From header.

    Raises ValueError for an address that cannot be in a header.
    """
    subject, text = ("You have an account already", _TAKEN) if letter.holder else _TEXTS[letter.kind]
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = letter.email
    mail["Subject"] = f"Rookery: {subject}"
    mail["Date"] = format_datetime(datetime.fromtimestamp(now_ms / 1000, UTC))
    mail["Message-ID"] = make_msgid(domain="rookery.invalid")
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: keeps vacation notices quiet
    mail.set_content(text.format(username=letter.username, holder=letter.holder, token=token) + _FOOT, cte="7bit")
    return mail

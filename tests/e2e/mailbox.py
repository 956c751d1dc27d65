"""The mails that the shared mesh writes into its folder."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from tests.e2e.harness import eventually

_TOKEN = re.compile(r"^[A-Za-z0-9_-]{43}$", re.MULTILINE)


def mails_to(data: Path, address: str) -> list[EmailMessage]:
    """All mails to an address, the oldest first."""
    found = []
    for path in sorted((data / "mail").glob("*.eml")):
        content = path.read_bytes()
        if f"To: {address}".encode() in content:
            mail = message_from_bytes(content, policy=policy.default)
            assert isinstance(mail, EmailMessage)
            found.append(mail)
    return found


async def mail_to(data: Path, address: str, subject: str, number: int = 1) -> str:
    """Waits for the `number`th mail to an address whose subject has these words; gives its text."""

    async def look() -> str:
        texts = [mail.get_content() for mail in mails_to(data, address) if subject in str(mail["subject"])]
        assert len(texts) >= number
        return str(texts[number - 1])

    return await eventually(look)


def token_in(text: str) -> str:
    """The token of a mail."""
    [token] = _TOKEN.findall(text)
    return str(token)

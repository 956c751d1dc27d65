"""Rows of mails that wait, for units that change something else too."""

from __future__ import annotations

from mesh.db.sql import Tx

VERIFY, RESET, CHANGED = "verify", "reset", "changed"
"""Kinds of mails: prove an address, choose another password, the password was changed."""


async def put_mail(tx: Tx, user_id: int, kind: str, now_ms: int) -> None:
    """Has a mail sent; one that waits already stays as it is."""
    await tx.execute(
        "INSERT INTO mails (user_id, kind, created_ms, due_ms) VALUES (:id, :kind, :now, :now)"
        " ON CONFLICT (user_id, kind) DO NOTHING",
        {"id": user_id, "kind": kind, "now": now_ms},
    )

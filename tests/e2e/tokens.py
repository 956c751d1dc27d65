"""Access tokens that nobody was given: signed with a mesh's own key, with claims of the test's choice."""

from __future__ import annotations

import json
import time
import warnings

from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import OKPKey

from cli.stores import Stores
from mesh.db.sql import Tx


async def signing_key(stores: Stores) -> OKPKey:
    """The key that a mesh signs with."""

    async def unit(tx: Tx) -> str:
        return str(await tx.scalar("SELECT jwk FROM signing_keys ORDER BY created_ms LIMIT 1"))

    return OKPKey.import_key(json.loads(await stores.users.read(unit)))


def signed(key: OKPKey, **changed: object) -> str:
    """A token for a minute and for everything, of nobody unless `sub` is given; `changed` are claims."""
    now = int(time.time())
    claims = {"iss": "rookery", "aud": "rookery-api", "scope": "*", "iat": now, "exp": now + 60, **changed}
    with warnings.catch_warnings(category=SecurityWarning, action="ignore"):
        return jwt.encode({"alg": "EdDSA", "kid": key.kid}, claims, key, algorithms=["EdDSA"])

"""The edge's certificates, as files that Envoy reads again when they are replaced (its secret discovery, from disk).

Envoy watches a folder and not its files: a file, or a link such as Kubernetes' `..data`, that is *moved* into it makes
it read certificate and key again. A pair that does not fit together is refused, and the one before stays.
"""

from __future__ import annotations

import json
from pathlib import Path

from mesh.tls import AUTHORITY, CERTIFICATE, KEY

_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 -- a type's name


def write_secrets(folder: Path, *, public: tuple[Path, Path] | None, identity: Path | None) -> None:
    """Writes what `render_edge` refers to.

    Args:
        folder: where.
        public: certificate and key that callers from outside see.
        identity: folder of the edge's certificate inside the mesh.
    """
    if public:
        _write(folder / "public.json", _pair(*public))
    if identity:
        _write(folder / "identity.json", _pair(identity / CERTIFICATE, identity / KEY))
        authority = {
            "trusted_ca": {"filename": str(identity / AUTHORITY)},
            "watched_directory": {"path": str(identity)},
        }
        _write(folder / "authority.json", {"validation_context": authority})


def _pair(certificate: Path, key: Path) -> dict[str, object]:
    return {
        "tls_certificate": {
            "certificate_chain": {"filename": str(certificate)},
            "private_key": {"filename": str(key)},
            "watched_directory": {"path": str(certificate.parent)},
        }
    }


def _write(path: Path, secret: dict[str, object]) -> None:
    path.write_text(json.dumps({"resources": [{"@type": _SECRET, "name": path.stem, **secret}]}))

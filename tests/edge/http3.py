"""A client of HTTP/3: an Envoy that takes HTTP/1.1 on loopback and speaks nothing but HTTP/3 to the edge under test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from cli.edge import envoy_path

_TYPE = "type.googleapis.com/envoy"
_START_S = 20.0


@asynccontextmanager
async def http3_client(port: int, authority: Path, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests reach 127.0.0.1:`port` over QUIC.

    Args:
        port: UDP.
        authority: certificate to trust, PEM.
        folder: for its files.
    """
    config, admin_file = folder / "http3.json", folder / "http3-admin.txt"
    admin_file.unlink(missing_ok=True)
    config.write_text(json.dumps(_config(port, authority)))
    process = await asyncio.create_subprocess_exec(
        *(str(envoy_path()), "-c", str(config), "--use-dynamic-base-id", "--disable-hot-restart", "-l", "off"),
        *("--concurrency", "1", "--admin-address-path", str(admin_file)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_START_S):
            url = await _listening(process, admin_file)
        async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as client:
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _read(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


async def _listening(process: asyncio.subprocess.Process, admin_file: Path) -> str:
    async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
        while process.returncode is None:
            if admin := await asyncio.to_thread(_read, admin_file):
                found = await client.get(f"http://{admin}/listeners", params={"format": "json"})
                for listener in found.json().get("listener_statuses", ()):
                    address = listener["local_address"]["socket_address"]
                    return f"http://127.0.0.1:{address['port_value']}"
            await asyncio.sleep(0.02)  # another process's file
    raise RuntimeError("the client's Envoy ended")


def _config(port: int, authority: Path) -> dict[str, object]:
    def endpoint(number: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    manager = {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "client",
        "server_header_transformation": "PASS_THROUGH",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_TYPE}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {"name": "edge", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "edge"}}]}
            ]
        },
    }
    tls = {
        "sni": "localhost",
        "common_tls_context": {
            "alpn_protocols": ["h3"],
            "validation_context": {"trusted_ca": {"filename": str(authority)}},
        },
    }
    cluster = {
        "name": "edge",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "edge",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": endpoint(port)}}]}],
        },
        "transport_socket": {
            "name": "envoy.transport_sockets.quic",
            "typed_config": {
                "@type": f"{_TYPE}.extensions.transport_sockets.quic.v3.QuicUpstreamTransport",
                "upstream_tls_context": tls,
            },
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http3_protocol_options": {}},
            }
        },
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "client", "address": endpoint(0), "filter_chains": [{"filters": filters}]}
    return {
        "admin": {"address": endpoint(0)},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }

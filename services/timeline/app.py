"""Composition root of `timeline`."""

from __future__ import annotations

from rookery.graph.v1.graph_mesh_pb2_grpc import GraphMeshServiceStub
from rookery.timeline.v1 import timeline_service_pb2
from rookery.tweet.v1.tweet_mesh_pb2_grpc import TweetMeshServiceStub
from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceStub

from mesh.cache.open import open_cache
from mesh.client import ClientMetrics, Destination
from mesh.paging import Cursors
from mesh.server import Service, rpcs
from mesh.settings import Environment
from mesh.tls import Identity
from services.timeline.activity import Activity
from services.timeline.rpc.get_home_timeline import GetHomeTimeline
from services.timeline.rpc.get_list_timeline import GetListTimeline
from services.timeline.settings import TimelineSettings
from services.timeline.sources import Sources
from views.ended import remote_ended_sessions
from views.impressions import remote_impressions
from views.lists import author_lists, home_lists
from views.pages import Pages
from views.remote import remote_polls, remote_standings, remote_tweets, remote_users
from views.shown import Views


async def build(env: Environment) -> Service:
    """The service, put together from its settings."""
    settings = TimelineSettings.read(env)
    cache = open_cache(settings.cache_url)
    metrics = ClientMetrics.create()
    identity = Identity(settings.identity) if settings.identity else None
    user = Destination("user", settings.user_target, UserMeshServiceStub, metrics=metrics, identity=identity)
    graph = Destination("graph", settings.graph_target, GraphMeshServiceStub, metrics=metrics, identity=identity)
    tweet = Destination("tweet", settings.tweet_target, TweetMeshServiceStub, metrics=metrics, identity=identity)
    home = home_lists(cache)
    sources = Sources(cache, home, author_lists(cache), graph, tweet)
    users = remote_users(cache, user)
    impressions = remote_impressions(tweet)
    views = Views(
        remote_tweets(cache, tweet),
        users,
        remote_polls(cache, tweet),
        remote_standings(cache, users, graph),
        impressions.saw,
    )
    activity = Activity(home, graph)
    cursors = Cursors(settings.cursor_key)
    public = rpcs(
        timeline_service_pb2.DESCRIPTOR.services_by_name["TimelineService"],
        {
            "GetHomeTimeline": GetHomeTimeline(cache, sources, views, activity, cursors),
            "GetListTimeline": GetListTimeline(graph, tweet, Pages(views, cursors)),
        },
    )
    return Service(
        name="timeline",
        ended=remote_ended_sessions(user),
        rpcs=public,
        background={"impressions": impressions.run},
        stop=[activity.stop, impressions.flush, user.close, graph.close, tweet.close, cache.close],
    )

"""Composition root of `tweet`."""

from __future__ import annotations

from prometheus_client import REGISTRY
from rookery.graph.v1.graph_mesh_pb2_grpc import GraphMeshServiceStub
from rookery.moderation.v1.moderation_mesh_pb2_grpc import ModerationMeshServiceStub
from rookery.tweet.v1 import (
    tweet_archive_mesh_pb2,
    tweet_mesh_pb2,
    tweet_moderation_mesh_pb2,
    tweet_service_pb2,
)
from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceStub

from mesh.bus.open import open_bus
from mesh.cache.loading import LoadLimit
from mesh.cache.open import open_cache
from mesh.cache.records import Records
from mesh.client import ClientMetrics, Destination
from mesh.ids import LeasedIds
from mesh.interceptors.base import Priority
from mesh.paging import Cursors
from mesh.server import Service, rpcs
from mesh.settings import Environment
from mesh.tls import Identity
from services.tweet.consumers import subscriptions
from services.tweet.counts import Counting
from services.tweet.domain import Mark
from services.tweet.erasure import Erasure
from services.tweet.gate import Gate
from services.tweet.language import Languages
from services.tweet.polls import Polls
from services.tweet.reconciler import Reconciler
from services.tweet.rpc.add_impressions import AddImpressions
from services.tweet.rpc.batch_get_polls import BatchGetPolls
from services.tweet.rpc.batch_get_tweets import BatchGetTweets
from services.tweet.rpc.create_tweet import CreateTweet
from services.tweet.rpc.delete_tweet import DeleteTweet
from services.tweet.rpc.get_tweets import GetTweet, ListTweetsById
from services.tweet.rpc.list_mentions import ListMentions
from services.tweet.rpc.list_recent_tweets import ListRecentTweets
from services.tweet.rpc.list_related_tweets import ListConversation, ListQuoteTweets, ListRetweets
from services.tweet.rpc.list_user_tweets import ListUserTweets
from services.tweet.rpc.marks import (
    Bookmark,
    Like,
    ListBookmarks,
    ListLikedTweets,
    ListLikingUsers,
    Marks,
    Unbookmark,
    Unlike,
)
from services.tweet.rpc.moderate import BatchGetForReview, ListForReview, SetVisibility
from services.tweet.rpc.read_archive import ReadArchive
from services.tweet.rpc.retweets import ListRetweetedBy, Retweet, Unretweet
from services.tweet.rpc.vote import Vote
from services.tweet.settings import TweetSettings
from services.tweet.sight import Sight
from services.tweet.store.open import open_stores
from services.tweet.tweets import Tweets
from views.ended import remote_ended_sessions
from views.hydrate import Hydrator
from views.impressions import Impressions
from views.pages import Pages
from views.record import POLL_PREFIX, TWEET_PREFIX
from views.remote import remote_standings, remote_users
from views.shown import Views


async def build(env: Environment) -> Service:
    """The service, put together from its settings."""
    settings = TweetSettings.read(env)
    cache = open_cache(settings.cache_url)
    bus = open_bus(settings.bus_url, registry=REGISTRY)
    stores = await open_stores(settings.database_url, bus, outbox_keep_seconds=settings.outbox_keep_seconds)
    store = stores.tweets
    metrics = ClientMetrics.create()
    identity = Identity(settings.identity) if settings.identity else None
    user = Destination("user", settings.user_target, UserMeshServiceStub, metrics=metrics, identity=identity)
    graph = Destination("graph", settings.graph_target, GraphMeshServiceStub, metrics=metrics, identity=identity)
    moderation = Destination(
        "moderation", settings.moderation_target, ModerationMeshServiceStub, metrics=metrics, identity=identity
    )
    records = Records(cache, TWEET_PREFIX)
    loads = LoadLimit()
    tweets = Tweets(store, records, loads)
    users = remote_users(cache, user)
    poll_records = Records(cache, POLL_PREFIX)
    polls = Polls(stores.polls, poll_records, loads)
    impressions = Impressions(stores.counts.add_impressions)
    views = Views(
        Hydrator(records, tweets.load),
        users,
        Hydrator(poll_records, polls.load),
        remote_standings(cache, users, graph),
        impressions.saw,
    )
    sight = Sight(store, views.standings)
    ids = LeasedIds(stores.leases)
    counting = Counting(stores.counts, tweets, polls)
    reconciler = Reconciler(stores.check, counting.recent, pause_s=stores.compares_each_s)
    languages = Languages()
    pages = Pages(views, Cursors(settings.cursor_key))
    likes = Marks(Mark.LIKE, store, ids, sight, pages)
    bookmarks = Marks(Mark.BOOKMARK, store, ids, sight, pages)
    consumers = subscriptions(bus, store, tweets, polls, Erasure(store, stores.remains, tweets))
    public = rpcs(
        tweet_service_pb2.DESCRIPTOR.services_by_name["TweetService"],
        {
            "CreateTweet": CreateTweet(store, ids, tweets, sight, languages, Gate(moderation), user, graph),
            "DeleteTweet": DeleteTweet(store, tweets, views),
            "GetTweet": GetTweet(views),
            "ListTweetsById": ListTweetsById(views),
            "ListUserTweets": ListUserTweets(store, pages),
            "ListMentions": ListMentions(store, pages),
            "ListConversation": ListConversation(store, views, pages),
            "ListQuoteTweets": ListQuoteTweets(store, pages),
        },
        priorities={"CreateTweet": Priority.CRITICAL, "DeleteTweet": Priority.CRITICAL},
    )
    engagement = rpcs(
        tweet_service_pb2.DESCRIPTOR.services_by_name["EngagementService"],
        {
            "Retweet": Retweet(store, ids, tweets, sight, views.users),
            "Unretweet": Unretweet(store, tweets),
            "ListRetweetedBy": ListRetweetedBy(store, pages),
            "ListRetweets": ListRetweets(store, pages),
            "Like": Like(likes),
            "Unlike": Unlike(likes),
            "ListLikingUsers": ListLikingUsers(likes),
            "ListLikedTweets": ListLikedTweets(likes),
            "Bookmark": Bookmark(bookmarks),
            "Unbookmark": Unbookmark(bookmarks),
            "ListBookmarks": ListBookmarks(bookmarks),
            "Vote": Vote(stores.polls, sight),
        },
    )
    mesh = rpcs(
        tweet_mesh_pb2.DESCRIPTOR.services_by_name["TweetMeshService"],
        {
            "BatchGetTweets": BatchGetTweets(tweets),
            "BatchGetPolls": BatchGetPolls(polls),
            "AddImpressions": AddImpressions(stores.counts),
            "ListRecentTweets": ListRecentTweets(store, loads),
        },
        priority=Priority.CRITICAL,
        priorities={"AddImpressions": Priority.BACKGROUND},
    )
    archive = rpcs(
        tweet_archive_mesh_pb2.DESCRIPTOR.services_by_name["TweetArchiveMeshService"],
        {"ReadArchive": ReadArchive(store, stores.polls, stores.remains)},
        priority=Priority.BACKGROUND,
    )
    moderated = rpcs(
        tweet_moderation_mesh_pb2.DESCRIPTOR.services_by_name["TweetModerationMeshService"],
        {
            "SetVisibility": SetVisibility(store, tweets),
            "BatchGetForReview": BatchGetForReview(store),
            "ListForReview": ListForReview(store, stores.check),
        },
        priorities={"SetVisibility": Priority.CRITICAL, "ListForReview": Priority.BACKGROUND},
    )
    return Service(
        name="tweet",
        ended=remote_ended_sessions(user),
        rpcs=[*public, *engagement, *mesh, *archive, *moderated],
        background={
            "ids": ids.renew_forever,
            "counting": counting.run,
            "reconciler": reconciler.run,
            "impressions": impressions.run,
            "languages": languages.run,
            **stores.background,
        },
        start=[stores.outbox.start, *(consumer.start for consumer in consumers)],
        stop=[
            *(consumer.stop for consumer in consumers),
            impressions.flush,
            stores.outbox.stop,
            ids.release,
            user.close,
            graph.close,
            moderation.close,
            bus.close,
            cache.close,
            stores.close,
        ],
    )

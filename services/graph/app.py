"""Composition root of `graph`."""

from __future__ import annotations

from prometheus_client import REGISTRY
from rookery.graph.v1 import graph_archive_mesh_pb2, graph_mesh_pb2, graph_service_pb2, list_service_pb2
from rookery.tweet.v1.tweet_mesh_pb2_grpc import TweetMeshServiceStub
from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceStub

from mesh.bus.open import open_bus
from mesh.cache.open import open_cache
from mesh.cache.sets import GuardedSets
from mesh.client import ClientMetrics, Destination
from mesh.ids import LeasedIds
from mesh.interceptors.base import Priority
from mesh.outbox.relay import OutboxOptions
from mesh.paging import Cursors
from mesh.server import Service, rpcs
from mesh.settings import Environment
from mesh.tls import Identity
from services.graph.consumers import subscriptions
from services.graph.domain import SETS, Line
from services.graph.erasure import Erasure
from services.graph.listings import Listings
from services.graph.readmodel import ReadModel
from services.graph.review import Review
from services.graph.rpc.batch_get_relation import BatchGetRelation
from services.graph.rpc.blocks import Block, Unblock
from services.graph.rpc.follow import Follow
from services.graph.rpc.follow_requests import AcceptFollowRequest, DeclineFollowRequest
from services.graph.rpc.get_following import GetFollowing
from services.graph.rpc.get_lists import (
    GetList,
    ListFollowedLists,
    ListListMemberships,
    ListOwnedLists,
    ListPinnedLists,
)
from services.graph.rpc.get_standing import GetStanding
from services.graph.rpc.keep_lists import FollowList, PinList, UnfollowList, UnpinList
from services.graph.rpc.list_active_followers import ListActiveFollowers
from services.graph.rpc.list_members import AddListMember, RemoveListMember
from services.graph.rpc.list_people import ListFollowers, ListFollowing
from services.graph.rpc.list_people_of_lists import GetListMembers, ListListFollowers, ListListMembers
from services.graph.rpc.manage_lists import CreateList, DeleteList, UpdateList
from services.graph.rpc.mark_active import MarkActive
from services.graph.rpc.mutes import Mute, Unmute
from services.graph.rpc.own_people import ListBlocking, ListFollowRequests, ListMuting, ListSentFollowRequests
from services.graph.rpc.read_archive import ReadArchive
from services.graph.rpc.settle_reach import SettleReach
from services.graph.rpc.unfollow import Unfollow
from services.graph.settings import GraphSettings
from services.graph.settling import Settling
from services.graph.store.open import open_stores
from views.ended import remote_ended_sessions
from views.pages import Pages
from views.remote import remote_polls, remote_tweets, remote_users
from views.shown import Views
from views.standings import Standings

_CHANGES = ("Follow", "Unfollow", "Block", "Unblock", "Mute", "Unmute", "AcceptFollowRequest", "DeclineFollowRequest")


async def build(env: Environment) -> Service:
    """The service, put together from its settings."""
    settings = GraphSettings.read(env)
    cache = open_cache(settings.cache_url)
    bus = open_bus(settings.bus_url, registry=REGISTRY)
    stores = await open_stores(
        settings.database_url,
        bus,
        Line(settings.celebrity_followers),
        OutboxOptions.keeping(settings.outbox_keep_seconds),
    )
    store, lists = stores.graph, stores.lists
    metrics = ClientMetrics.create()
    identity = Identity(settings.identity) if settings.identity else None
    user = Destination("user", settings.user_target, UserMeshServiceStub, metrics=metrics, identity=identity)
    tweet = Destination("tweet", settings.tweet_target, TweetMeshServiceStub, metrics=metrics, identity=identity)
    readmodel = ReadModel(store, GuardedSets(cache, SETS))
    get_standing = GetStanding(store, readmodel)
    users = remote_users(cache, user)
    views = Views(
        remote_tweets(cache, tweet), users, remote_polls(cache, tweet), Standings(cache, users, get_standing.ask)
    )
    ids = LeasedIds(stores.leases)
    cursors = Cursors(settings.cursor_key)
    pages = Pages(views, cursors)
    listings = Listings(lists, views, cursors)
    settling = Settling(lists)
    consumers = subscriptions(bus, readmodel, Erasure(store, lists, stores.remains, readmodel))
    public = rpcs(
        graph_service_pb2.DESCRIPTOR.services_by_name["GraphService"],
        {
            "Follow": Follow(store, ids, views.users, readmodel),
            "Unfollow": Unfollow(store, readmodel),
            "Block": Block(store, ids, views.users, readmodel),
            "Unblock": Unblock(store, readmodel),
            "Mute": Mute(store, ids, views.users, readmodel),
            "Unmute": Unmute(store, readmodel),
            "AcceptFollowRequest": AcceptFollowRequest(store, ids, views.users, readmodel),
            "DeclineFollowRequest": DeclineFollowRequest(store),
            "ListFollowers": ListFollowers(store, pages),
            "ListFollowing": ListFollowing(store, pages),
            "ListBlocking": ListBlocking(store, pages),
            "ListMuting": ListMuting(store, pages),
            "ListFollowRequests": ListFollowRequests(store, pages),
            "ListSentFollowRequests": ListSentFollowRequests(store, pages),
        },
        priorities=dict.fromkeys(_CHANGES, Priority.CRITICAL),
    )
    of_lists = rpcs(
        list_service_pb2.DESCRIPTOR.services_by_name["ListService"],
        {
            "CreateList": CreateList(lists, ids),
            "UpdateList": UpdateList(lists, listings, settling),
            "DeleteList": DeleteList(lists, listings, settling),
            "GetList": GetList(listings),
            "ListOwnedLists": ListOwnedLists(lists, listings),
            "ListFollowedLists": ListFollowedLists(lists, listings),
            "ListListMemberships": ListListMemberships(lists, listings),
            "ListPinnedLists": ListPinnedLists(lists, listings),
            "AddListMember": AddListMember(lists, ids, views.users, listings),
            "RemoveListMember": RemoveListMember(lists, listings),
            "ListListMembers": ListListMembers(lists, listings, pages),
            "ListListFollowers": ListListFollowers(lists, listings, pages),
            "FollowList": FollowList(lists, ids, listings),
            "UnfollowList": UnfollowList(lists),
            "PinList": PinList(lists, ids, listings),
            "UnpinList": UnpinList(lists),
        },
    )
    mesh = rpcs(
        graph_mesh_pb2.DESCRIPTOR.services_by_name["GraphMeshService"],
        {
            "BatchGetRelation": BatchGetRelation(store),
            "ListActiveFollowers": ListActiveFollowers(store),
            "GetFollowing": GetFollowing(readmodel),
            "GetStanding": get_standing,
            "GetListMembers": GetListMembers(lists, listings),
            "MarkActive": MarkActive(store),
            "SettleReach": SettleReach(store, readmodel),
        },
        priority=Priority.CRITICAL,
    )
    archive = rpcs(
        graph_archive_mesh_pb2.DESCRIPTOR.services_by_name["GraphArchiveMeshService"],
        {"ReadArchive": ReadArchive(store, lists)},
        priority=Priority.BACKGROUND,
    )
    return Service(
        name="graph",
        ended=remote_ended_sessions(user),
        rpcs=[*public, *of_lists, *mesh, *archive],
        background={"ids": ids.renew_forever, "lists": settling.run, "review": Review(store).run},
        start=[stores.outbox.start, *(consumer.start for consumer in consumers)],
        stop=[
            *(consumer.stop for consumer in consumers),
            stores.outbox.stop,
            ids.release,
            user.close,
            tweet.close,
            bus.close,
            cache.close,
            stores.close,
        ],
    )

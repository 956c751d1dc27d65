"""Composition root of `moderation`."""

from __future__ import annotations

import asyncio

import structlog
from prometheus_client import REGISTRY
from rookery.graph.v1.graph_mesh_pb2_grpc import GraphMeshServiceStub
from rookery.moderation.v1 import (
    moderation_archive_mesh_pb2,
    moderation_mesh_pb2,
    moderation_service_pb2,
    report_service_pb2,
)
from rookery.tweet.v1.tweet_mesh_pb2_grpc import TweetMeshServiceStub
from rookery.tweet.v1.tweet_moderation_mesh_pb2_grpc import TweetModerationMeshServiceStub
from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceStub

from mesh.bus.open import open_bus
from mesh.cache.open import open_cache
from mesh.client import ClientMetrics, Destination
from mesh.db.leases import SqlLeases
from mesh.db.sql import Database
from mesh.ids import LeasedIds
from mesh.interceptors.base import Priority
from mesh.outbox.relay import OutboxOptions
from mesh.outbox.sql import SqlOutbox
from mesh.paging import Cursors
from mesh.server import Service, rpcs
from mesh.settings import Environment
from mesh.tasks import Tasks
from mesh.tls import Identity
from services.moderation.checks import Checks
from services.moderation.consumers import subscriptions
from services.moderation.enforcement import Enforcement
from services.moderation.links import LinkCheck
from services.moderation.material import Material
from services.moderation.rpc.audit import ListAudit
from services.moderation.rpc.cases import Cases, ClaimCases, DecideCase, GetCase, ListCases, OpenCase, ReleaseCase
from services.moderation.rpc.check_post import CheckPost
from services.moderation.rpc.read_archive import ReadArchive
from services.moderation.rpc.reports import CreateAppeal, CreateReport, ListDecisions
from services.moderation.rpc.scans import CreateScan, GetScan
from services.moderation.scanner import Scanner
from services.moderation.settings import ModerationSettings
from services.moderation.spam import Spam, SpamModel
from services.moderation.store.sql import SqlModerationStore
from services.moderation.toxicity import toxicity_of
from views.ended import remote_ended_sessions
from views.remote import remote_polls, remote_standings, remote_tweets, remote_users
from views.shown import Views

_log = structlog.get_logger(__name__)
_LOOK_S = 5.0  # between looks at the list of forbidden links
_STOP_S = 2.0


async def build(env: Environment) -> Service:
    """The service, put together from its settings."""
    settings = ModerationSettings.read(env)
    links = LinkCheck(settings.forbidden_links)
    db = await Database.open(settings.database_url)
    cache = open_cache(settings.cache_url)
    bus = open_bus(settings.bus_url, registry=REGISTRY)
    outbox = SqlOutbox(db, bus, "moderation", options=OutboxOptions.keeping(settings.outbox_keep_seconds))
    metrics = ClientMetrics.create()
    identity = Identity(settings.identity) if settings.identity else None
    user = Destination("user", settings.user_target, UserMeshServiceStub, metrics=metrics, identity=identity)
    graph = Destination("graph", settings.graph_target, GraphMeshServiceStub, metrics=metrics, identity=identity)
    tweet = Destination("tweet", settings.tweet_target, TweetMeshServiceStub, metrics=metrics, identity=identity)
    reviewed = Destination(
        "tweet-moderation",
        settings.tweet_target,
        TweetModerationMeshServiceStub,
        metrics=metrics,
        limit=16,
        identity=identity,
        peer="tweet",
    )
    store = SqlModerationStore(db, outbox)
    ids = LeasedIds(SqlLeases(db))
    cursors = Cursors(settings.cursor_key)
    users = remote_users(cache, user)
    views = Views(remote_tweets(cache, tweet), users, remote_polls(cache, tweet), remote_standings(cache, users, graph))
    material = Material(reviewed, users)
    toxicity = toxicity_of(settings.toxicity_url)
    spam = Spam(cache, SpamModel.load(), settings.cursor_key)
    checks = Checks(toxicity, spam, links)
    check_post = CheckPost(checks, store, ids)
    enforcement = Enforcement(store, reviewed, user)
    scanner = Scanner(store, material, toxicity, spam, links, ids)
    cases = Cases(store, material)
    consumers = subscriptions(bus, store, material, ids, settings.viral_engagement)

    async def reload() -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                if links.reload():
                    _log.info("forbidden links were read again")
            except (OSError, ValueError) as error:
                _log.warning("forbidden links stay as they were", error=str(error))

    mesh = rpcs(
        moderation_mesh_pb2.DESCRIPTOR.services_by_name["ModerationMeshService"],
        {"CheckPost": check_post},
        priority=Priority.CRITICAL,
    )
    reports = rpcs(
        report_service_pb2.DESCRIPTOR.services_by_name["ReportService"],
        {
            "CreateReport": CreateReport(store, ids, views),
            "ListDecisions": ListDecisions(store, cursors),
            "CreateAppeal": CreateAppeal(store, ids),
        },
    )
    moderators = rpcs(
        moderation_service_pb2.DESCRIPTOR.services_by_name["ModerationService"],
        {
            "ListCases": ListCases(cases, cursors),
            "OpenCase": OpenCase(cases, ids),
            "ClaimCases": ClaimCases(cases),
            "GetCase": GetCase(cases),
            "ReleaseCase": ReleaseCase(cases),
            "DecideCase": DecideCase(cases, ids, enforcement),
            "ListAudit": ListAudit(store, cursors),
            "CreateScan": CreateScan(store, ids, scanner),
            "GetScan": GetScan(store),
        },
    )
    archive = rpcs(
        moderation_archive_mesh_pb2.DESCRIPTOR.services_by_name["ModerationArchiveMeshService"],
        {"ReadArchive": ReadArchive(store)},
        priority=Priority.BACKGROUND,
    )
    models = Tasks()

    async def load_model() -> None:
        # Not with the others, which begin once the service is ready: it is to be ready with its model.
        models.start("model", toxicity.run)
        await toxicity.loaded()

    async def stop_model() -> None:
        await models.stop(_STOP_S)

    return Service(
        name="moderation",
        ended=remote_ended_sessions(user),
        rpcs=[*mesh, *reports, *moderators, *archive],
        background={
            "ids": ids.renew_forever,
            "links": reload,
            "enforcement": enforcement.run,
            "scanner": scanner.run,
        },
        start=[load_model, outbox.start, *(consumer.start for consumer in consumers)],
        stop=[
            *(consumer.stop for consumer in consumers),
            check_post.finish,
            stop_model,
            outbox.stop,
            ids.release,
            user.close,
            graph.close,
            tweet.close,
            reviewed.close,
            bus.close,
            cache.close,
            db.close,
        ],
    )

"""Composition root of `user`."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import REGISTRY
from rookery.graph.v1.graph_archive_mesh_pb2_grpc import GraphArchiveMeshServiceStub
from rookery.graph.v1.graph_mesh_pb2_grpc import GraphMeshServiceStub
from rookery.moderation.v1.moderation_archive_mesh_pb2_grpc import ModerationArchiveMeshServiceStub
from rookery.tweet.v1.tweet_archive_mesh_pb2_grpc import TweetArchiveMeshServiceStub
from rookery.tweet.v1.tweet_mesh_pb2_grpc import TweetMeshServiceStub
from rookery.user.v1 import (
    erasure_service_pb2,
    export_service_pb2,
    oauth_service_pb2,
    recovery_service_pb2,
    second_factor_service_pb2,
    session_service_pb2,
    user_mesh_pb2,
    user_service_pb2,
)

from mesh.bus.open import open_bus
from mesh.cache.loading import LoadingCache
from mesh.cache.open import open_cache
from mesh.cache.records import Records
from mesh.client import ClientMetrics, Destination
from mesh.db.leases import SqlLeases
from mesh.db.sql import Database
from mesh.errors import Unavailable
from mesh.ids import LeasedIds
from mesh.interceptors.base import Priority
from mesh.objects import Objects
from mesh.outbox.relay import OutboxOptions
from mesh.outbox.sql import SqlOutbox
from mesh.paging import Cursors
from mesh.server import Service, rpcs
from mesh.sessions import EndedSessions
from mesh.settings import Environment
from mesh.tls import Identity
from services.user.attempts import Guard
from services.user.authorizing import Authorizing
from services.user.consumers import subscriptions
from services.user.erasure import Eraser
from services.user.exporter import Exporter, Sections
from services.user.granting import Granting
from services.user.mail_transport import open_transport
from services.user.mailer import Mailer
from services.user.passwords import Passwords
from services.user.people import People
from services.user.rpc.authorize import Authorize, AuthorizeSigned, Decide
from services.user.rpc.batch_get_users import BatchGetUsers
from services.user.rpc.change_password import ChangePassword
from services.user.rpc.check_signed import CheckSigned
from services.user.rpc.clients import CreateClient, CreateClientToken, DeleteClient, ListClients
from services.user.rpc.deactivate import Deactivate
from services.user.rpc.ended_sessions import ListEndedSessions
from services.user.rpc.erase_me import EraseMe
from services.user.rpc.exports import CreateExport, GetExport, GetExportArchive, ListExports
from services.user.rpc.get_jwks import GetJwks
from services.user.rpc.get_users import (
    GetMe,
    GetUser,
    GetUserByUsername,
    GetUsers,
    ListUsersById,
    ListUsersByUsername,
)
from services.user.rpc.issue_token import IssueToken, RevokeToken
from services.user.rpc.login import Login
from services.user.rpc.logout import Logout
from services.user.rpc.recovery import ForgotPassword, ResetPassword, SendVerification, VerifyEmail
from services.user.rpc.refresh import Refresh
from services.user.rpc.register import Register
from services.user.rpc.resolve_usernames import ResolveUsernames
from services.user.rpc.search_users import SearchUsers
from services.user.rpc.second_factor import (
    ConfirmSecondFactor,
    DisableSecondFactor,
    EnrolSecondFactor,
    GetSecondFactor,
)
from services.user.rpc.sessions import EndSession, EndSessions, ListSessions
from services.user.rpc.set_role import SetRole
from services.user.rpc.set_suspension import SetSuspension
from services.user.rpc.signed_tokens import BeginSigned, EndSigned
from services.user.rpc.update_me import UpdateMe
from services.user.second_factor import SecondFactors
from services.user.sessions import Sessions
from services.user.settings import UserSettings
from services.user.signed import Nonces, SignedRequests
from services.user.signing_in import SignIn
from services.user.store.attempts import SqlAttemptStore
from services.user.store.clients import SqlClientStore
from services.user.store.exports import SqlExportStore
from services.user.store.mails import SqlMailStore
from services.user.store.second_factors import SqlSecondFactorStore
from services.user.store.sql import SqlKeyStore, SqlSessionStore, SqlUserStore
from services.user.tokens import AccessTokens
from services.user.vault import Vault
from views.hydrate import Hydrator
from views.record import USER_PREFIX
from views.remote import remote_polls, remote_standings, remote_tweets
from views.shown import Views

_DAY_MS = 86_400_000
_NAMES_TTL_S = 300
_PARSED_AT_ONCE = 20  # people in one transaction; a hostile profile takes 20 ms, and others wait


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def build(env: Environment) -> Service:
    """The service, put together from its settings."""
    settings = UserSettings.read(env)
    db = await Database.open(settings.database_url)
    cache = open_cache(settings.cache_url)
    bus = open_bus(settings.bus_url, registry=REGISTRY)
    outbox = SqlOutbox(db, bus, "user", options=OutboxOptions.keeping(settings.outbox_keep_seconds))
    metrics = ClientMetrics.create()
    identity = Identity(settings.identity) if settings.identity else None
    tweet = Destination("tweet", settings.tweet_target, TweetMeshServiceStub, metrics=metrics, identity=identity)
    graph = Destination("graph", settings.graph_target, GraphMeshServiceStub, metrics=metrics, identity=identity)
    # Of their own, so that exports take nobody's place and their failures open nobody's breaker.
    tweet_archive = Destination(
        "tweet-archive",
        settings.tweet_target,
        TweetArchiveMeshServiceStub,
        metrics=metrics,
        limit=4,
        identity=identity,
        peer="tweet",
    )
    graph_archive = Destination(
        "graph-archive",
        settings.graph_target,
        GraphArchiveMeshServiceStub,
        metrics=metrics,
        limit=4,
        identity=identity,
        peer="graph",
    )
    moderation_archive = Destination(
        "moderation-archive",
        settings.moderation_target,
        ModerationArchiveMeshServiceStub,
        metrics=metrics,
        limit=4,
        identity=identity,
        peer="moderation",
    )
    store = SqlUserStore(db, outbox)
    records = Records(cache, USER_PREFIX)
    people = People(store, records, LoadingCache(cache, "username:", ttl_s=_NAMES_TTL_S))
    hydrator = Hydrator(records, people.load)
    views = Views(
        remote_tweets(cache, tweet), hydrator, remote_polls(cache, tweet), remote_standings(cache, hydrator, graph)
    )
    ids = LeasedIds(SqlLeases(db))
    passwords = Passwords(memory_kib=settings.password_memory_kib, passes=settings.password_passes)
    vault = Vault(settings.secrets_key)
    guard = Guard(SqlAttemptStore(db), vault, _now_ms, per_address=settings.login_attempts_per_address)
    second_factor_store = SqlSecondFactorStore(db)
    second_factors = SecondFactors(second_factor_store, vault, _now_ms)
    sign_in = SignIn(store, passwords, guard, second_factors, _now_ms)
    mails = SqlMailStore(db)
    mailer = Mailer(mails, open_transport(settings.smtp_url), settings.mail_from, _now_ms)
    tokens = AccessTokens(SqlKeyStore(db), ttl_s=settings.access_token_seconds)
    session_store, clients = SqlSessionStore(db), SqlClientStore(db)
    sessions = Sessions(session_store, clients, tokens, ttl_ms=settings.session_days * _DAY_MS)
    users = GetUsers(views)
    objects = Objects.open(settings.objects_url)
    export_store = SqlExportStore(db, outbox)
    exporter = Exporter(export_store, objects, Sections(graph_archive, tweet_archive, moderation_archive).readers)
    eraser = Eraser(store, export_store, objects, people, token_ms=settings.access_token_seconds * 1000, now_ms=_now_ms)
    consumers = subscriptions(bus, store, people)
    ended = ListEndedSessions(session_store, sessions)

    async def housekeeping() -> None:
        while True:
            try:
                while parsed := await store.parse_again(_PARSED_AT_ONCE):
                    await people.publish(parsed)
                await asyncio.sleep(60)
                await tokens.load()
                await sessions.forget_expired()
                await guard.forget()
                await mails.forget_expired(_now_ms())
                await clients.forget_grants(_now_ms())
            except Unavailable:  # said by the database already; again in a minute
                await asyncio.sleep(60)

    login = Login(store, sign_in, sessions, people, _now_ms)
    auth = rpcs(
        user_service_pb2.DESCRIPTOR.services_by_name["AuthService"],
        {
            "Register": Register(ids, store, passwords, guard, sessions, people),
            "Login": login,
            "Refresh": Refresh(store, sessions),
            "Logout": Logout(sessions),
            "ChangePassword": ChangePassword(store, passwords, sign_in, sessions),
            "GetJwks": GetJwks(tokens),
        },
        priority=Priority.CRITICAL,
    )
    recovery = rpcs(
        recovery_service_pb2.DESCRIPTOR.services_by_name["RecoveryService"],
        {
            "VerifyEmail": VerifyEmail(mails, _now_ms),
            "SendVerification": SendVerification(mails, guard, mailer, _now_ms),
            "ForgotPassword": ForgotPassword(mails, guard, mailer, _now_ms),
            "ResetPassword": ResetPassword(mails, passwords, guard, mailer, _now_ms),
        },
        priority=Priority.CRITICAL,
    )
    second_factor = rpcs(
        second_factor_service_pb2.DESCRIPTOR.services_by_name["SecondFactorService"],
        {
            "GetSecondFactor": GetSecondFactor(second_factor_store),
            "EnrolSecondFactor": EnrolSecondFactor(second_factor_store, sign_in, vault),
            "ConfirmSecondFactor": ConfirmSecondFactor(second_factor_store, second_factors, vault, _now_ms),
            "DisableSecondFactor": DisableSecondFactor(second_factor_store, sign_in),
        },
    )
    public = rpcs(
        user_service_pb2.DESCRIPTOR.services_by_name["UserService"],
        {
            "GetMe": GetMe(users),
            "UpdateMe": UpdateMe(store, people, views.tweets),
            "Deactivate": Deactivate(store, sign_in, people, _now_ms),
            "GetUser": GetUser(users),
            "ListUsersById": ListUsersById(users),
            "GetUserByUsername": GetUserByUsername(users, people),
            "ListUsersByUsername": ListUsersByUsername(users, people),
            "SearchUsers": SearchUsers(store, views, Cursors(settings.cursor_key)),
        },
    )
    mesh = rpcs(
        user_mesh_pb2.DESCRIPTOR.services_by_name["UserMeshService"],
        {
            "BatchGetUsers": BatchGetUsers(people),
            "ResolveUsernames": ResolveUsernames(people),
            "SetSuspension": SetSuspension(store, people),
            "ListEndedSessions": ended,
            "SetRole": SetRole(store, clients),
        },
        priority=Priority.CRITICAL,
    )
    of_sessions = rpcs(
        session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
        {
            "ListSessions": ListSessions(session_store, clients, sessions),
            "EndSession": EndSession(session_store),
            "EndSessions": EndSessions(session_store),
        },
        priority=Priority.CRITICAL,
    )
    authorizing = Authorizing(clients, login, sessions)
    granting = Granting(clients, clients, store, session_store, sessions, tokens)
    oauth = rpcs(
        oauth_service_pb2.DESCRIPTOR.services_by_name["OAuthService"],
        {
            "Authorize": Authorize(authorizing),
            "Decide": Decide(authorizing),
            "IssueToken": IssueToken(granting),
            "RevokeToken": RevokeToken(granting),
            "BeginSigned": BeginSigned(clients, sessions),
            "AuthorizeSigned": AuthorizeSigned(authorizing),
            "EndSigned": EndSigned(clients, sessions, store),
        },
        priority=Priority.CRITICAL,
    )
    of_clients = rpcs(
        oauth_service_pb2.DESCRIPTOR.services_by_name["ClientService"],
        {
            "CreateClient": CreateClient(clients, sessions),
            "ListClients": ListClients(clients),
            "DeleteClient": DeleteClient(clients),
            "CreateClientToken": CreateClientToken(clients, sessions),
        },
    )
    signed = CheckSigned(SignedRequests(clients, session_store, Nonces(cache), settings.public_urls), clients)
    erasure = rpcs(
        erasure_service_pb2.DESCRIPTOR.services_by_name["ErasureService"],
        {"EraseMe": EraseMe(sign_in, eraser)},
        priority=Priority.CRITICAL,
    )
    exports = rpcs(
        export_service_pb2.DESCRIPTOR.services_by_name["ExportService"],
        {
            "CreateExport": CreateExport(export_store, ids, exporter),
            "GetExport": GetExport(export_store),
            "ListExports": ListExports(export_store),
            "GetExportArchive": GetExportArchive(export_store, objects),
        },
    )
    return Service(
        name="user",
        ended=EndedSessions(ended.read),
        rpcs=[
            *(*auth, *recovery, *second_factor, *public, *of_sessions, *of_clients, *oauth, *exports, *erasure, *mesh),
            signed.rpc,
        ],
        background={
            "ids": ids.renew_forever,
            "housekeeping": housekeeping,
            "exports": exporter.run,
            "erasures": eraser.run,
            "mails": mailer.run,
        },
        start=[tokens.load, outbox.start, *(consumer.start for consumer in consumers)],
        stop=[
            *(consumer.stop for consumer in consumers),
            outbox.stop,
            ids.release,
            tweet.close,
            graph.close,
            tweet_archive.close,
            graph_archive.close,
            moderation_archive.close,
            bus.close,
            cache.close,
            db.close,
        ],
    )

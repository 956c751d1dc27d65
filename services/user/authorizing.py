"""How a person lets a client in: sign in, decide, go back. Two forms and no cookie.

What a form may do it can do because of what is typed or hidden in it: a password in the first, in the second a ticket
that only the page after a right password has. A browser adds nothing by itself, so nobody can make somebody else's
browser send a form that counts for that person (CSRF). A ticket is good once, for 10 minutes, for the client, address
and scope that the person was shown; a code once, for a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.api.httpbody_pb2 import HttpBody
from rookery.user.v1.oauth_service_pb2 import AuthorizeRequest
from rookery.user.v1.user_service_pb2 import LoginRequest

from mesh.errors import InvalidArgument, MeshError, PermissionDenied, ResourceExhausted, Unauthenticated
from services.user.client_rules import (
    OUT_OF_BAND,
    fresh_secret,
    hash_of,
    is_challenge,
    with_parameters,
)
from services.user.forms import oauth_error
from services.user.pages import origin_of, page, redirect
from services.user.rpc.login import Login
from services.user.scopes import SIGNED, asked, explained
from services.user.sessions import Sessions
from services.user.signed import fresh_verifier
from services.user.store.clients import CODE, PAGE, REQUEST, Client, ClientStore, Grant

_PAGE_MS = 600_000
_CODE_MS = 60_000  # the longest for a browser's way back; X has 30 s, RFC 6749 recommends 10 minutes at most
_PARAMETERS = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks a person for."""

    client: Client
    """Who asks."""
    redirect_uri: str
    """Where the person is sent back to."""
    scope: str
    """What for."""
    state: str
    """Comes back as it is."""
    challenge: str
    """What the code's verifier must meet; for OAuth 1.0a the request token after `signed:`."""
    hidden: Mapping[str, str]
    """What the first form repeats."""


_SIGNED = "signed:"


class Authorizing:
    """The pages of OAuth 2.0 and OAuth 1.0a."""

    def __init__(self, clients: ClientStore, login: Login, sessions: Sessions) -> None:
        self._clients = clients
        self._login = login
        self._sessions = sessions

    async def begin(self, request: AuthorizeRequest) -> HttpBody:
        """The first page. Raises InvalidArgument where the client cannot be believed about its own address."""
        found = await self._asked({name: getattr(request, name) for name in _PARAMETERS})
        return found if isinstance(found, HttpBody) else self._sign_in(found)

    async def begin_signed(self, token: str) -> HttpBody:
        """The first page for a request token. Raises InvalidArgument for one that is over."""
        return self._sign_in(await self._asked_signed(token))

    async def go_on(self, form: Mapping[str, str]) -> HttpBody:
        """What follows a form. Raises InvalidArgument for one that this service did not make, or that is over."""
        step = form.get("step", "")
        if step in ("allow", "deny"):
            return await self._decided(form, step == "allow")
        if step != "sign_in":
            raise oauth_error("invalid_request", "This form is not known.")
        if token := form.get("oauth_token", ""):
            found: Asked | HttpBody = await self._asked_signed(token)
        else:
            found = await self._asked({name: form.get(name, "") for name in _PARAMETERS})
        if isinstance(found, HttpBody):
            return found
        try:
            person, _ = await self._login.verify(
                LoginRequest(
                    username=form.get("username", "")[:254],
                    password=form.get("password", "")[:128],
                    code=form.get("code", "").strip()[:32],
                )
            )
        except (Unauthenticated, PermissionDenied, InvalidArgument, ResourceExhausted) as error:
            return self._sign_in(found, error, form.get("username", "")[:254])
        ticket = fresh_secret()
        await self._clients.add_grant(
            Grant(
                hash=hash_of(ticket),
                kind=PAGE,
                client_id=found.client.id,
                user_id=person.id,
                redirect_uri=found.redirect_uri,
                scope=found.scope,
                challenge=found.challenge,
                secret="",
                expires_ms=self._sessions.now_ms() + _PAGE_MS,
            )
        )
        return page(
            "decide",
            f"Let {found.client.name} use your account?",
            leads_to="" if found.redirect_uri == OUT_OF_BAND else found.redirect_uri,
            client=found.client.name,
            username=person.username,
            scopes=explained(found.scope),
            target="a number to type in" if found.redirect_uri == OUT_OF_BAND else origin_of(found.redirect_uri),
            hidden={"ticket": ticket, "state": found.state},
        )

    async def _asked(self, values: Mapping[str, str]) -> Asked | HttpBody:
        client = await self._clients.client(values["client_id"])
        address = values["redirect_uri"]
        if client is None:
            raise oauth_error("invalid_request", "This client is not known.")
        if address not in client.redirect_uris:
            raise oauth_error("invalid_request", "This redirect_uri is not one that the client registered.")

        def back(error: str, description: str) -> HttpBody:
            return redirect(with_parameters(address, error=error, error_description=description, state=values["state"]))

        scopes = asked(values["scope"])
        if values["response_type"] != "code":
            return back("unsupported_response_type", "response_type must be code.")
        if values["code_challenge_method"] != "S256" or not is_challenge(values["code_challenge"]):
            return back("invalid_request", "A code_challenge of method S256 is needed.")
        if scopes is None:
            return back("invalid_scope", "scope must have names that are known, with spaces between.")
        return Asked(client, address, " ".join(scopes), values["state"], values["code_challenge"], values)

    async def _asked_signed(self, token: str) -> Asked:
        found = await self._clients.grant(REQUEST, hash_of(token), self._sessions.now_ms())
        client = await self._clients.client(found.client_id) if found and not found.user_id else None
        if found is None or client is None:
            raise InvalidArgument("This request token is not known, or is over.")
        return Asked(client, found.redirect_uri, SIGNED, "", _SIGNED + token, {"oauth_token": token})

    @staticmethod
    def _sign_in(found: Asked, error: MeshError | None = None, username: str = "") -> HttpBody:
        return page(
            "sign_in",
            "Sign in",
            client=found.client.name,
            username=username,
            error=error.detail if error else "",
            hidden=found.hidden,
            leads_to="" if found.redirect_uri == OUT_OF_BAND else found.redirect_uri,
        )

    async def _decided(self, form: Mapping[str, str], allowed: bool) -> HttpBody:
        now = self._sessions.now_ms()
        found = await self._clients.take(PAGE, hash_of(form.get("ticket", "")), now)
        if found is None:
            raise oauth_error("invalid_request", "This page is over; begin again.")
        if found.challenge.startswith(_SIGNED):
            return await self._decided_signed(found, found.challenge.removeprefix(_SIGNED), allowed, now)
        state = form.get("state", "")[:500]
        if not allowed:
            return redirect(with_parameters(found.redirect_uri, error="access_denied", state=state))
        code = fresh_secret()
        grant = Grant(
            hash=hash_of(code),
            kind=CODE,
            client_id=found.client_id,
            user_id=found.user_id,
            redirect_uri=found.redirect_uri,
            scope=found.scope,
            challenge=found.challenge,
            secret="",
            expires_ms=now + _CODE_MS,
        )
        if not await self._clients.add_grant(grant):
            return redirect(with_parameters(found.redirect_uri, error="access_denied", state=state))
        return redirect(with_parameters(found.redirect_uri, code=code, state=state))

    async def _decided_signed(self, found: Grant, token: str, allowed: bool, now: int) -> HttpBody:
        by_hand = found.redirect_uri == OUT_OF_BAND
        if not allowed:
            await self._clients.take(REQUEST, hash_of(token), now)
            if by_hand:
                return page("done", "Not connected", text="The program was not let in. You can close this page.")
            return redirect(with_parameters(found.redirect_uri, denied=token))
        verifier = fresh_verifier(by_hand=by_hand)
        if not await self._clients.approve(hash_of(token), found.user_id, hash_of(verifier).hex(), now):
            raise InvalidArgument("This request token is not known, or is over.")
        if by_hand:
            return page("done", "Connected", text="Type this number into the program:", pin=verifier)
        return redirect(with_parameters(found.redirect_uri, oauth_token=token, oauth_verifier=verifier))

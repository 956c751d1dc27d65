"""Lists of people as answers: which of them show to a viewer, what of them was asked for, and pages of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol

from rookery.api.v2.envelope_pb2 import Fields, Includes, Meta, Problem
from rookery.api.v2.list_pb2 import List
from rookery.api.v2.user_pb2 import User

from mesh.errors import InvalidArgument, Violation
from mesh.interceptors.viewer import require_reader
from mesh.paging import Cursors, Fetch, Position, keyset_page
from services.graph.list_domain import PeopleList, list_shows, no_list, resource
from services.graph.store.lists import Listing, ListStore
from views.plan import users_plan
from views.present import not_found
from views.record import is_there
from views.shown import Views
from views.visibility import Surface

_DEFAULT_PAGE = 100  # as the X API has it
_MAX_TEXT = 1024
_DEFAULT = frozenset({"id", "name"})
FIELDS = frozenset(field.name for field in List.DESCRIPTOR.fields)
"""Names that `list.fields` takes."""
EXPANSIONS = frozenset({"owner_id"})
"""What lists can be expanded with."""


class Choosing(Protocol):
    """A request that chooses members of lists and of their owners."""

    @property
    def list(self) -> Fields:
        """`list.fields`."""
        ...

    @property
    def user(self) -> Fields:
        """`user.fields`."""
        ...

    @property
    def expansions(self) -> str:
        """`expansions`."""
        ...


class Paged(Choosing, Protocol):
    """A request for a page of lists."""

    id: int
    max_results: int
    pagination_token: str

    def HasField(self, field_name: Literal["max_results"], /) -> bool:
        """Whether an optional member is there."""
        ...


@dataclass(frozen=True, slots=True)
class _OfUsers:
    """A selection of people's members alone, for views.plan."""

    user: Fields
    tweet: Fields = field(default_factory=Fields)
    post: Fields = field(default_factory=Fields)
    expansions: str = ""


@dataclass(frozen=True, slots=True)
class ListPlan:
    """What a request wants to see of lists."""

    members: frozenset[str]
    """Of each list."""
    owners: bool
    """Whether owners are included."""
    cut_user: Callable[[bytes], bytes]
    """Cuts an owner's record to the fields asked for."""


def lists_plan(request: Choosing) -> ListPlan:
    """The plan of a request whose `data` is lists. Raises InvalidArgument for a name that X does not know."""
    return _plan(request.list.fields, request.user.fields, request.expansions)


@lru_cache(maxsize=256)
def _plan(list_fields: str, user_fields: str, expansions: str) -> ListPlan:
    members = _names("list.fields", list_fields, FIELDS)
    owners = bool(_names("expansions", expansions, EXPANSIONS))
    users = users_plan(_OfUsers(Fields(fields=user_fields)))
    return ListPlan(_DEFAULT | members | ({"owner_id"} if owners else set()), owners, users.cut_user)


def _names(parameter: str, text: str, known: frozenset[str]) -> frozenset[str]:
    names = frozenset(name for part in text.split(",") if (name := part.strip()))
    if len(text) > _MAX_TEXT:
        message = f"a list of names has {_MAX_TEXT} characters at most"
    elif unknown := sorted(names - known):
        message = (
            f"The `{parameter}` query parameter value [{unknown[0][:64]}] is not one of [{','.join(sorted(known))}]"
        )
    else:
        return names
    raise InvalidArgument(
        "One or more parameters to your request was invalid.", violations=[Violation(parameter, message)]
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer's parts."""

    data: list[List]
    """The lists, cut."""
    includes: Includes | None
    """Their owners, when asked for."""
    errors: list[Problem]
    """What is missing, and why."""


class Listings:
    """Reads lists for viewers."""

    def __init__(self, lists: ListStore, views: Views, cursors: Cursors) -> None:
        self._lists = lists
        self._views = views
        self._cursors = cursors

    async def find(self, list_id: int, viewer: int) -> PeopleList | None:
        """The list; None when it is not there or does not show to the viewer."""
        shown = await self._showing(await self._lists.by_ids([list_id]), viewer)
        return shown[0] if shown else None

    async def get(self, list_id: int, viewer: int) -> PeopleList:
        """The list. Raises NotFound when it is not there or does not show to the viewer."""
        listed = await self.find(list_id, viewer)
        if listed is None:
            raise no_list(list_id)
        return listed

    async def _showing(self, lists: Sequence[PeopleList], viewer: int) -> list[PeopleList]:
        facts = await self._views.standings.of(viewer, list({one.owner_id for one in lists}))
        return [one for one in lists if list_shows(viewer, one, owner_seen=facts.sees(one.owner_id, Surface.PROFILE))]

    async def show(self, plan: ListPlan, lists: Sequence[PeopleList]) -> Shown:
        """The parts of an answer whose `data` is these lists, which show."""
        data = [_cut(one, plan.members) for one in lists]
        includes, errors = None, []
        if plan.owners and lists:
            includes = Includes()
            ids = list(dict.fromkeys(one.owner_id for one in lists))
            for user_id, record in zip(ids, await self._views.users.get(ids), strict=True):
                if record is not None and is_there(record):
                    includes.users.append(User.FromString(plan.cut_user(record)))
                else:
                    errors.append(not_found("user", "owner_id", str(user_id)))
        return Shown(data, includes if includes is not None and includes.users else None, errors)

    async def page(self, request: Paged, binding: str, fetch: Fetch[Listing]) -> tuple[Shown, Meta]:
        """A page of the lists of person `request.id` that show to the viewer; nothing if that person's tweets do not.

        Args:
            request: carries cursor, size and choice.
            binding: which lists.
            fetch: see mesh.paging.keyset_page.
        """
        plan, viewer = lists_plan(request), require_reader()
        binding = f"{binding}/{viewer}/{request.id}"
        position = Position(0)
        if request.pagination_token:
            position = Position.unpack(self._cursors.open(request.pagination_token, binding))
        limit = request.max_results if request.HasField("max_results") else _DEFAULT_PAGE
        facts = await self._views.standings.of(viewer, [request.id])
        if not facts.sees(request.id, Surface.PROFILE):
            return Shown([], None, [not_found("user", "id", str(request.id))]), Meta(result_count=0)

        async def keep(rows: list[Listing]) -> list[Listing]:
            visible = {one.id for one in await self._showing([row.list for row in rows], viewer)}
            return [row for row in rows if row.list.id in visible]

        page = await keyset_page(fetch, lambda row: row.key, position, limit, keep)
        shown = await self.show(plan, [row.list for row in page.rows])
        meta = Meta(result_count=len(page.rows))
        if page.next:
            meta.next_token = self._cursors.seal(page.next.pack(), binding)
        if page.previous and request.pagination_token:
            meta.previous_token = self._cursors.seal(page.previous.pack(), binding)
        return shown, meta


def _cut(listed: PeopleList, members: frozenset[str]) -> List:
    whole = resource(listed)
    for name in FIELDS - members:
        whole.ClearField(name)  # type: ignore[arg-type]
    return whole

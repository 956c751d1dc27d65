"""What the tables of `graph` keep of people (mesh/db/personal.py)."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.db.personal import Table

_BOTH_WAYS = "as if either had taken it back, page by page, with its events"

TABLES: Mapping[str, Table] = {
    "follows": Table(("follower_id", "followee_id"), ("follow_id",), ("following", "followers"), erased=_BOTH_WAYS),
    "follow_requests": Table(
        ("requester_id", "target_id"),
        ("request_id",),
        ("follow_requests_sent", "follow_requests_received"),
        erased=_BOTH_WAYS,
    ),
    "blocks": Table(
        ("blocker_id", "blocked_id"),
        ("block_id",),
        ("blocks",),
        left_out="that somebody blocks them is that one's",
        erased=_BOTH_WAYS,
    ),
    "mutes": Table(
        ("muter_id", "muted_id"),
        ("mute_id",),
        ("mutes",),
        left_out="that somebody mutes them is that one's",
        erased=_BOTH_WAYS,
    ),
    "lists": Table(
        ("owner_id",),
        ("list_id", "request_id"),
        ("lists",),
        left_out="deleted lists, which have no content",
        erased="deleted as by their owner, then the rows",
    ),
    "list_members": Table(
        ("user_id",),
        ("list_id", "member_id"),
        ("lists", "list_memberships"),
        left_out="that they are on others' private lists is the owners'",
        erased="as if taken off by the owner",
    ),
    "list_follows": Table(("user_id",), ("list_id", "follow_id"), ("followed_lists",), erased="as if taken back"),
    "list_pins": Table(("user_id",), ("list_id", "pin_id"), ("pinned_lists",), erased="as if taken back"),
    "lists_unsettled": Table(others=("list_id",), erased="work that is done within seconds"),
    "people": Table(
        ("user_id",), left_out="counts that the profile has, and a mark for fan-out", erased="the row, last of all"
    ),
    "worker_leases": Table(erased="numbers of processes"),
    "outbox": Table(("key",), ("id", "event_id"), left_out="events of the last minutes", erased="pruned by age"),
    "outbox_lease": Table(erased="a process"),
}
"""By name."""

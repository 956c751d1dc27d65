"""What clients may ask people for: the scopes of the X API, and what to tell people of each.

Which RPC needs which scope is in the contracts (rookery.options.v1.access). `account`, which RPCs about passwords,
sessions and the account itself ask for, is none that a client can have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mesh.context import EVERYTHING

SCOPES: Mapping[str, str] = {
    "tweet.read": "Read posts that you can see, those of protected accounts too.",
    "tweet.write": "Post, repost and vote for you, and delete your posts.",
    "tweet.moderate.write": "Hide and unhide replies to your posts.",
    "users.read": "See accounts that you can see, and your own.",
    "follows.read": "See whom you follow, who follows you, and who asks to.",
    "follows.write": "Follow and unfollow people for you, and answer their requests.",
    "offline.access": "Stay connected until you end it.",
    "space.read": "See Spaces that you can see.",
    "like.read": "See what you like, and who likes what you can see.",
    "like.write": "Like and unlike posts for you.",
    "list.read": "See lists that you can see, private ones of yours too.",
    "list.write": "Make and change lists, and follow and pin them, for you.",
    "block.read": "See whom you block.",
    "block.write": "Block and unblock people for you.",
    "mute.read": "See whom you mute.",
    "mute.write": "Mute and unmute people for you.",
    "bookmark.read": "See your bookmarks.",
    "bookmark.write": "Add and remove bookmarks for you.",
    "dm.read": "Read your direct messages.",
    "dm.write": "Send direct messages for you.",
    "media.write": "Upload media for you.",
}
"""By name, in X's spelling."""
OFFLINE = "offline.access"
"""What makes a refresh token part of the answer."""
SIGNED = " ".join(name for name in SCOPES if name != OFFLINE)
"""What a token of OAuth 1.0a is good for, which knows no scopes: all that a client can do."""
OF_CLIENTS = "tweet.read users.read follows.read like.read list.read"
"""What a client may do in its own name: read what everybody may."""


def asked(text: str) -> list[str] | None:
    """The scopes of a request, each once, in its order; None where one is unknown or there is none."""
    names = list(dict.fromkeys(text.split()))
    return names if names and all(name in SCOPES for name in names) else None


def explained(text: str) -> Sequence[str]:
    """What to tell a person of a scope."""
    if text in (SIGNED, EVERYTHING):
        return ["Read and do everything that you can, except for changing your password and your account."]
    return [SCOPES[name] for name in text.split() if name in SCOPES]

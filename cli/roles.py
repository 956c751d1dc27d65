"""`rookery roles`: what people are besides, such as moderators. Their tokens say it from the next one on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from rookery.user.v1.user_mesh_pb2 import SetRoleRequest
from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceStub

from cli.errors import OperatorError
from cli.options import data_option
from cli.state import running_state
from mesh.client import Destination
from mesh.errors import MeshError
from mesh.tls import Identity


@click.group()
def roles() -> None:
    """Give people of a running mesh a role, or take it away.

    A role is in the access tokens that are made from then on. Taking one away ends all of the person's sessions.
    """


async def _set(data: Path, username: str, role: str, granted: bool) -> None:
    process = running_state(data)["processes"]["user"]
    identity = Identity(Path(process["identity"])) if process["identity"] else None
    user = Destination("user", process["target"], UserMeshServiceStub, identity=identity)
    try:
        await user.call(user.stub.SetRole, SetRoleRequest(username=username, role=role, granted=granted))
    except MeshError as error:
        told = "; ".join(f"{one.field} {one.message}" for one in error.violations)
        raise OperatorError(f"{error.detail} {told}".rstrip()) from error
    finally:
        await user.close()


@roles.command()
@click.argument("username")
@click.argument("role")
@data_option
def grant(data: Path, username: str, role: str) -> None:
    """Give USERNAME the role ROLE, such as `moderator`."""
    asyncio.run(_set(data, username, role, True))
    click.echo(f"{username} has the role {role} with their next token")


@roles.command()
@click.argument("username")
@click.argument("role")
@data_option
def revoke(data: Path, username: str, role: str) -> None:
    """Take the role ROLE from USERNAME, and end all of their sessions."""
    asyncio.run(_set(data, username, role, False))
    click.echo(f"{username} has no role {role}; their sessions have ended")

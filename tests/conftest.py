"""What tests of every folder may use."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from mesh.startup import settle
from tests.called import CALLED

if TYPE_CHECKING:
    from cli.supervisor import Mesh

pytest.register_assert_rewrite("tests.stores.suites")  # else a failure there says nothing but AssertionError

ROOT = Path(__file__).parents[1]
UNLIMITED = {"ROOKERY_LIMITS_FILE": str(ROOT / "bench" / "limits.yaml")}
"""For a mesh whose people do more than the default limits allow; every request is still counted."""
CELEBRITY_FOLLOWERS = 12
"""From this many followers on, authors of the shared mesh are pulled: few enough to have in a test."""

CHEAP = {
    # The least that Argon2 takes: a test registers people by the hundred, and is none of how hard passwords are.
    "ROOKERY_PASSWORD_MEMORY_KIB": "8",
    "ROOKERY_PASSWORD_PASSES": "1",
    # All tests call from one address; those of the limit have one of their own.
    "ROOKERY_LOGIN_ATTEMPTS_PER_ADDRESS": "100000",
    # So that what is logged at all is looked at for secrets (e2e/test_logs.py).
    "ROOKERY_LOG_LEVEL": "debug",
}
"""Settings of the shared mesh."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--engines postgresql,...`: what the shared mesh stands on in place of the embedded stores."""
    names = "real stores for the shared mesh, by commas; `cluster` for the cluster profile and all that it needs"
    parser.addoption("--engines", default="", metavar="NAMES", help=names)
    parser.addoption("--nothing-skipped", action="store_true", help="a skipped test fails the run")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With `--nothing-skipped` a run that left something out has failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--nothing-skipped") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("tests were skipped, and none may be", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests report of themselves, lines of their output that begin with `report: `."""
    for report in terminalreporter.stats.get("passed", []):
        lines = [line for line in report.capstdout.splitlines() if line.startswith("report: ")]
        for line in lines if report.when == "call" else ():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def engines(pytestconfig: pytest.Config) -> Iterator[dict[str, str]]:
    """The variables that make a mesh use empty stores of its own in these engines, which are started if need be."""
    from cli.cluster import SERVED_BY
    from scripts.engines.catalogue import ENGINES
    from scripts.engines.control import Control

    asked = pytestconfig.getoption("--engines").split(",")
    names = [name for name in ENGINES if name in ({*SERVED_BY.values()} if asked == ["cluster"] else asked)]
    name = f"mesh_{uuid.uuid4().hex}"
    variables: dict[str, str] = {}
    with ExitStack() as used:
        for each in names:
            control = Control(ENGINES[each], ROOT / ".engines")
            if control.up() and "PYTEST_XDIST_WORKER" not in os.environ:
                used.callback(control.down)
            variables |= control.engine.apart(control.place(), name)
            used.callback(control.engine.drop, control.place(), name)
        yield variables


_LONGEST = (
    "test_visibility_fuzz",
    "test_counts_converge",
    "test_erasure",
    "test_hostile_visibility",
    "test_bench",
    "test_kills",
    "test_interrupted_exports",
    "test_valkey_gone",
)
"""Files that take from half a minute to two: they begin, so that no worker is left alone with one at the end."""


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Nothing of all these modules is garbage, so nothing is collected meanwhile, and they are not looked at later."""
    gc.disable()
    try:
        return (yield)
    finally:
        settle()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; xdist hands out files in this order."""
    place = {name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mesh(
    engines: dict[str, str], request: pytest.FixtureRequest, pytestconfig: pytest.Config
) -> AsyncIterator[Mesh]:
    """One running mesh, with real stores and a real edge, for all tests of a worker that do not harm it.

    Tests share it, so each works with people of its own; one that kills, stops or reconfigures something starts
    another with `cli.supervisor.running_mesh`. After a failure its logs are kept in `.pytest_cache`.
    """
    from cli.cluster import Cluster
    from cli.profile import STORES
    from cli.supervisor import running_mesh  # not for those who never ask for a mesh
    from tests.faults.crowd import warmed

    whole = pytestconfig.getoption("--engines") == "cluster" and engines.keys() >= {*STORES.values()}
    with tempfile.TemporaryDirectory(prefix="mesh-", dir="/tmp") as folder:
        settings = {"ROOKERY_CELEBRITY_FOLLOWERS": str(CELEBRITY_FOLLOWERS), **CHEAP, **UNLIMITED, **engines}
        async with running_mesh(Path(folder), env=settings, profile=Cluster(None) if whole else None) as running:
            if engines:
                await warmed(running.url)
            yield running
            if request.session.testsfailed:
                shutil.copytree(
                    running.data / "logs", ROOT / ".pytest_cache" / f"logs-{os.getpid()}", dirs_exist_ok=True
                )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that is marked as the proof of operations has called each of them, itself and with a good answer."""
    CALLED.forget()
    outcome = yield
    claimed = [name for mark in item.iter_markers("proves") for name in mark.args]
    if missing := CALLED.missing(claimed):
        pytest.fail(f"marked as the proof of {', '.join(missing)}, which it has not called with a good answer")
    return outcome

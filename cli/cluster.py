"""The cluster profile: the same processes as the embedded one, on engines that scale; nothing is kept on this machine.

Each store's URL comes from the operator's `ROOKERY_*_URL`, or else from the engine of this checkout that runs
(`rookery engines`). A store that has neither is named, all of them at once, and nothing is started.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cli.errors import ProfileError
from cli.profile import PROJECT, STORES, Embedded, Migration, Place, ProcessSpec
from scripts.engines.catalogue import ENGINES
from scripts.engines.control import Control

ENGINES_FOLDER = PROJECT / ".engines"
"""Where `rookery engines` keeps them unless it is told otherwise."""
_EMBEDDED = ("sqlite", "file", "unix")  # schemes of stores that are one machine's


SERVED_BY = {
    "users": "postgresql",
    "graph": "neo4j",
    "tweets": "cassandra",
    "moderation": "postgresql",
    "bus": "kafka",
    "cache": "valkey",
    "objects": "s3",
}
"""The engine of this checkout that serves each store."""


class Cluster:
    """Services and the edge on this machine, stores elsewhere.

    Args:
        engines: the folder of the engines whose URLs are used where the operator gives none; None to look nowhere.
    """

    def __init__(self, engines: Path | None = ENGINES_FOLDER) -> None:
        self._engines = engines
        self._processes = Embedded()

    @property
    def name(self) -> str:
        """As in `--profile`."""
        return "cluster"

    def migrations(self, data: Path, operator: Mapping[str, str]) -> Sequence[Migration]:
        """As the embedded profile's, of these stores. Raises ProfileError when one is missing."""
        return self._processes.migrations(data, self.complete(operator))

    def processes(self, place: Place) -> Sequence[ProcessSpec]:
        """Services and Envoy. Raises ProfileError when a store is missing."""
        return self._processes.processes(replace(place, operator=self.complete(place.operator)))

    def complete(self, operator: Mapping[str, str]) -> dict[str, str]:
        """The operator's environment with a URL for each store. Raises ProfileError, which names all that miss one."""
        complete = dict(operator)
        wrong = []
        for store, variable in STORES.items():
            url = operator.get(variable)
            if not url:
                url, why = self._running(store)
                if url is None:
                    wrong.append(f"{store}: {variable} is not set, and {why}")
                    continue
            elif url.startswith(_EMBEDDED):
                wrong.append(f"{store}: {variable} names a store of one machine ({url.partition(':')[0]})")
            complete[variable] = url
        if wrong:
            missing = "\n  ".join(wrong)
            raise ProfileError(
                f"the cluster profile lacks stores; nothing was started\n  {missing}\n"
                "`rookery engines up` starts engines for trials on this machine"
            )
        return complete

    def running(self, variable: str) -> str | None:
        """The URL of a store by the engine that serves it in this checkout; None when it does not run."""
        return next((self._running(store)[0] for store, name in STORES.items() if name == variable), None)

    def _running(self, store: str) -> tuple[str | None, str]:
        """The URL of the engine that runs in this checkout; without one, why."""
        if self._engines is None:
            return None, "no engines of a checkout are asked"
        engine = ENGINES.get(SERVED_BY[store])
        if engine is None:
            return None, "there is no engine for it yet"
        control = Control(engine, self._engines)
        if not control.pids():
            return None, f"the engine {engine.name} does not run in {self._engines}"
        return control.urls()[STORES[store]], ""

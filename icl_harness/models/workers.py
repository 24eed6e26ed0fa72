"""The workers of a run on a Ray cluster: `--workers ray`.

In: the ids of local models. Out: workers, each a process with one GPU (or some CPUs) that holds a
replica of each model (replicas.py). Ray places them and says who died. A worker walks one line at a
time. One more than there is room for always waits for a machine to join.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from icl_harness.errors import ModelError, SpecError, WorkerLost
from icl_harness.models.base import weights_of
from icl_harness.models.replicas import About, Host, Replica, Worker, first_line, retold

PATIENCE = 3  # workers that may die in a row before they were open


class Workers:
    """The workers of a run. `cpus` per worker: by default 1, or 0 for a worker with a GPU."""

    def __init__(self, cpus: int | None = None) -> None:
        self._cpus = cpus
        self._resources: dict[str, float] = {}
        self._lines: dict[Worker, int] = {}  # of those that are open: how many lines they walk
        self._starting: set[Worker] = set()
        self._welcomes: dict[Worker, asyncio.Task[None]] = {}
        self._models: tuple[Mapping[str, str], Mapping[str, Any]] = (
            {},
            {},
        )  # what a worker opens, and how
        self._most = 0
        self._abouts: dict[str, About] = {}
        self._n_stillborn = 0  # in a row
        self._changed = asyncio.Event()
        self._started_ray = False

    def start(
        self, model_ids: Sequence[str], how: Mapping[str, Any], most: int
    ) -> dict[str, Replica]:
        """Start at most `most` workers with these models; return the models on the first that is
        there.

        `how`: the other arguments of `open_model`.

        Raises `ModelError` where a model cannot be opened, `SpecError` where no machine has room
        for a worker.
        """
        ray = self._connect()
        self._models, self._most = ({name: _whole_path(name) for name in model_ids}, how), most
        has_gpus = any(node["Resources"].get("GPU") for node in ray.nodes() if node["Alive"])
        default_cpus = 0 if has_gpus else 1
        cpus = default_cpus if self._cpus is None else self._cpus
        self._resources = {"GPU": 1} if has_gpus else {}
        self._resources |= {"CPU": cpus} if cpus else {}
        if not self._room():
            needs = " and ".join(
                f"{n:g} {name}{'s' * (n != 1)}" for name, n in self._resources.items()
            )
            raise SpecError(
                f"no machine of the Ray cluster has the {needs} that a worker takes. "
                "Lower --worker-cpus."
            )
        self._grow()
        (ready, *_), _ = ray.wait([worker.opened for worker in self._starting], num_returns=1)
        worker = next(worker for worker in self._starting if worker.opened == ready)
        try:
            with retold():
                self._admit(worker, ray.get(ready))
        except WorkerLost as error:
            raise _stillborn(error) from error
        return {name: Replica(name, worker, about) for name, about in self._abouts.items()}

    async def take(self) -> Worker:
        """Return a worker that walks no line, for a new one; wait for it."""
        return await self._take(
            lambda: next((worker for worker, n in self._lines.items() if not n), None)
        )

    async def replace(self, lost: Worker) -> Worker:
        """Return another worker for the line of one that died: the least busy, for a line that
        waited for its turn might wait for a line that waits for it. Raises `WorkerLost` where no
        machine is left that could hold one.
        """
        self.give_back(lost)
        self._forget(lost)
        return await self._take(lambda: min(self._lines, key=self._lines.__getitem__, default=None))

    def give_back(self, worker: Worker) -> None:
        """Take note that a worker walks a line less."""
        if worker in self._lines:
            self._lines[worker] -= 1
        self._changed.set()

    @property
    def n_busy(self) -> int:
        """How many workers walk a line."""
        return sum(n > 0 for n in self._lines.values())

    def close(self) -> None:
        """End the workers, and Ray where it was started here."""
        for worker in (*self._lines, *self._starting):
            _kill(worker)
        self._lines.clear()
        self._starting.clear()
        for welcome in self._welcomes.values():
            if welcome.done() and not welcome.cancelled():
                welcome.exception()  # nobody waited for this worker any more
        if self._started_ray:
            import ray

            ray.shutdown()

    def _connect(self) -> Any:
        """Use this process's Ray, the cluster of RAY_ADDRESS or of this machine, or start one of
        this machine alone.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError as error:
            raise SpecError("--workers ray needs Ray: pip install 'icl-harness[ray]'.") from error
        if not ray.is_initialized():
            _probe(os.environ.get("RAY_ADDRESS", ""))
            try:
                ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
            except Exception as error:  # whatever is amiss with a cluster
                raise SpecError(
                    f"Ray cannot be started, or its cluster not be used: {first_line(error)}"
                ) from error
            self._started_ray = True
            ray._private.worker._worker_logs_enabled = (
                False  # a dead machine's last words; no public switch spares us
            )
        return ray

    def _room(self) -> int:
        """Return how many workers the machines can hold together."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        n_slots = 0
        for node in nodes:
            fits = (int(node.get(name, 0) // n) for name, n in self._resources.items())
            n_slots += min(fits, default=1)
        return n_slots

    def _grow(self) -> None:
        """Start workers for all the room there is, and one that waits for a machine to join."""
        import ray

        wanted = min(self._most, max(self._room(), len(self._lines) + 1))
        for _ in range(wanted - len(self._lines) - len(self._starting)):
            options = {
                "num_cpus": self._resources.get("CPU", 0),
                "num_gpus": self._resources.get("GPU", 0),
                "scheduling_strategy": "SPREAD",
            }
            actor = ray.remote(Host).options(**options).remote()
            self._starting.add(Worker(actor=actor, opened=actor.open.remote(*self._models)))

    def _admit(self, worker: Worker, abouts: dict[str, About]) -> None:
        """Take a worker that is open among the others. Raises `ModelError` where its weights are
        others.
        """
        self._starting.discard(worker)
        for name, about in abouts.items():
            first = self._abouts.setdefault(name, about).description
            if weights_of(first) != weights_of(about.description):
                raise ModelError(
                    f"{name} has other weights on {about.description['worker']} than on "
                    f"{first['worker']}. Give every machine the same."
                )
        self._lines[worker] = 0

    async def _take(self, find: Callable[[], Worker | None]) -> Worker:
        while True:
            for welcome in self._welcomes.values():
                if welcome.done():
                    welcome.result()  # raises what was amiss
            if (worker := find()) is not None:
                self._lines[worker] += 1
                return worker
            if not self._lines and not self._room():
                raise WorkerLost("no machine of the Ray cluster is left for a worker. Start one.")
            for new in self._starting - self._welcomes.keys():
                self._welcomes[new] = asyncio.create_task(self._welcome(new))
            self._changed.clear()
            await self._changed.wait()

    async def _welcome(self, worker: Worker) -> None:
        """Wait until a worker is open; there may be room for more then."""
        try:
            with retold():
                self._admit(worker, await worker.opened)
            self._n_stillborn = 0
            self._grow()
        except WorkerLost as error:
            self._n_stillborn += 1
            if self._n_stillborn == PATIENCE:
                raise _stillborn(error) from error
            self._forget(worker)
        finally:
            self._changed.set()

    def _forget(self, worker: Worker) -> None:
        self._lines.pop(worker, None)
        self._starting.discard(worker)
        _kill(worker)
        self._grow()


def _probe(address: str) -> None:
    """Raise `SpecError` where nobody answers at RAY_ADDRESS; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if "://" in address or (colon and not port.isdigit()):
        raise SpecError(
            f"RAY_ADDRESS is {address}; give HOST:PORT, and run icl on a machine of the cluster."
        )
    if colon:
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise SpecError(
                f"no Ray cluster answers at RAY_ADDRESS {address} ({error})."
            ) from error


def _kill(worker: Worker) -> None:
    import ray

    with contextlib.suppress(Exception):  # it may be dead
        ray.kill(worker.actor)


def _stillborn(error: WorkerLost) -> ModelError:
    return ModelError(
        f"workers do not start: {error} Every machine needs icl-harness[ray] in this one's version."
    )


def _whole_path(model_id: str) -> str:
    """Return the id with the whole path of a folder or a GGUF file: a worker has a working
    directory of its own.
    """
    provider, _, name = model_id.partition("/")
    if provider == "sft":
        return f"sft/{_whole_path(name)}"
    here = bool(name) and (Path(name).is_dir() or Path(name).is_file())
    return f"{provider}/{Path(name).resolve()}" if here else model_id

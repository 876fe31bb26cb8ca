"""Doing jobs on dask.distributed: local processes, or any cluster whose scheduler can be reached.

Every worker opens the network once and writes what it makes straight into the store; only outcomes travel back. What is
handed out at a time is bounded, so that a stop takes effect after the jobs in flight. Order, retries after a worker
died and placement are the scheduler's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...errors import ArgumentError, MissingPackageError, StoreError, WeightAtlasError
from ...store import Files
from .context import Context, Settings, Source, Work
from .job import GPU, Event, Failure, Job, Outcome, Tell
from .running import call_back, forget, held_up, install, run_on_worker, told
from .stopping import Stop

#: Jobs that are handed out for every thread of the cluster, and besides: a scheduler that adds workers while work waits
#: must see some waiting.
PER_THREAD, WAITING = 2, 4
#: Seconds to wait for the first worker.
PATIENCE = 120
#: Seconds between looks at whether to stop.
LOOK = 0.5
#: For local workers; another cluster has its own settings. How many may die with a job on them before it is given up,
#: and how long one that begins again is waited for: by default it is taken for lost if it happens to be on its way
#: again 15 seconds after it died before.
LOCALLY = {"distributed.scheduler.allowed-failures": 1, "distributed.deploy.lost-worker-timeout": "1 hour"}
MANY = "pip install 'weightatlas[dask]'"

Runner = Callable[[Context, Sequence[Job], Tell, Stop, Callable[[], None]], Iterator[Outcome]]


def on_cluster(executor: Any, files: Files) -> Runner:
    """What does jobs on the workers that are meant.

    Args:
        executor: a number of local processes, the address of a scheduler, or a ``distributed.Client``.
        files: where they write.

    Raises:
        ArgumentError: for anything else.
        MissingPackageError: without dask.distributed.
        StoreError: for a place that other processes do not reach.
    """
    try:
        import distributed
    except ImportError as error:
        raise MissingPackageError(f"workers need dask.distributed, which is not installed: {MANY}") from error
    count = executor if isinstance(executor, int) and not isinstance(executor, bool) else None
    if not (isinstance(executor, str | distributed.Client) if count is None else count > 0):
        raise ArgumentError(
            f"executor={executor!r} is no number of workers, address of a scheduler such as tcp://host:8786, or "
            "distributed.Client"
        )
    if count is not None and files.where.startswith("memory://"):
        raise StoreError("memory:// lies in this process alone; other processes cannot write there")

    def run(
        context: Context, jobs: Sequence[Job], tell: Tell, stop: Stop, ready: Callable[[], None] = lambda: None
    ) -> Iterator[Outcome]:
        if not jobs:
            ready()
            return
        with _client(executor, context) as (client, threads):
            where = client.scheduler.address
            try:
                yield from _done(client, _work(context, threads), jobs, tell, stop, ready)
            except Exception as error:
                if client.status == "running" or isinstance(error, WeightAtlasError):
                    raise
                words = f"the scheduler at {where} is gone. What was made before stays; build again to go on"
                raise StoreError(words) from error

    return run


@contextlib.contextmanager
def _client(executor: Any, context: Context) -> Iterator[tuple[Any, int]]:
    """A client, and torch's threads in each of its workers (0: as they are)."""
    import dask
    import distributed

    if isinstance(executor, distributed.Client):
        yield executor, 0
        return
    if isinstance(executor, str):
        try:
            client = distributed.Client(executor, timeout=PATIENCE / 4)
        except (OSError, TimeoutError, ValueError) as error:
            raise ArgumentError(f"no scheduler answers at {executor!r}: {error or type(error).__name__}") from error
        with client:
            yield client, 0
        return
    options: dict[str, Any] = dict(
        n_workers=executor, threads_per_worker=1, processes=True, host="127.0.0.1",
        dashboard_address="127.0.0.1:0",  # any free port of this machine alone, so that two builds do not meet
        memory_limit=0, silence_logs=50, resources={GPU: 1} if context.settings.device else {},
        preload=[_IGNORE_SIGNALS],
    )  # fmt: skip
    with (
        dask.config.set(LOCALLY),
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client, max((os.cpu_count() or 1) // executor, 1)


#: A terminal's Ctrl-C goes to all processes; only the builder answers to it, so that workers finish what they do.
_IGNORE_SIGNALS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def _work(context: Context, threads: int) -> Work:
    """What workers need to know."""
    where = context.files.where
    place = where if "://" in where else os.path.abspath(where)
    source = Source.of(context.net)
    try:
        source.open(context.settings.weights_hash)
    except WeightAtlasError:  # changed since it was loaded, or loaded from a file that is gone: it travels as it is
        source = Source.whole(context.net)
    key = secrets.token_hex(8)
    return Work(key, source, place, context.settings, context.recipes, context.photos, threads)


def _plugin(work: Work) -> Any:
    """What tells every worker of the work, also those that join later."""
    from distributed import WorkerPlugin

    class Told(WorkerPlugin):
        name = f"weightatlas-{work.key}"

        def setup(self, worker: Any) -> None:
            install(work)

        def teardown(self, worker: Any) -> None:
            forget(work.key)

    return Told()


def _done(
    client: Any, work: Work, jobs: Sequence[Job], tell: Tell, stop: Stop, ready: Callable[[], None]
) -> Iterator[Outcome]:
    plugin = _plugin(work)
    client.register_plugin(plugin)
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        raise ArgumentError(f"no worker joined {client.scheduler.address} within {PATIENCE} seconds") from error
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if on_gpu(work.settings) and any(j.on_device for j in jobs) and not any(w["resources"].get(GPU) for w in workers):
        words = f"no worker has the resource {GPU} yet; pictures wait for one (dask worker ADDRESS --resources {GPU}=1)"
        tell(Event("waiting", about=words))
    try:
        ready()
        yield from _Flight(client, work, jobs, tell, stop).outcomes()
    finally:
        if client.status == "running":
            with contextlib.suppress(OSError, TimeoutError, ValueError):
                client.unregister_worker_plugin(plugin.name)


def on_gpu(settings: Settings) -> bool:
    """Whether pictures are made on a GPU."""
    return str(settings.device or "").startswith("cuda")


class _Flight:
    """Jobs that are handed out and come back.

    A scheduler cannot tell which of the jobs on a worker killed it. So those that it gives up are *suspects*: they are
    handed out again at the end, one at a time, and only what kills workers even then is a failure.
    """

    def __init__(self, client: Any, work: Work, jobs: Sequence[Job], tell: Tell, stop: Stop) -> None:
        self.client, self.work, self.tell, self.stop = client, work, tell, stop
        self.waiting = deque(jobs)
        self.place = {job.name: n for n, job in enumerate(jobs)}
        self.flying: dict[str, tuple[Any, Job]] = {}
        self.suspects: dict[str, Job] = {}
        self.alone: set[str] = set()
        self.failed: list[Failure] = []
        self.handed = 0
        self.called_back = False

    def outcomes(self) -> Iterator[Outcome]:
        """What became of each job, as they come back."""
        from distributed import wait

        while True:
            if self.stop.asked:
                self._call_back()
            else:
                yield from self._hand_out()
            if not self.flying:
                return
            futures = [future for future, _ in self.flying.values()]
            with contextlib.suppress(TimeoutError):
                wait(futures, timeout=LOOK, return_when="FIRST_COMPLETED")
            for name in [n for n, (future, _) in self.flying.items() if future.done()]:
                future, job = self.flying.pop(name)
                outcome = self._landed(future, job)
                future.release()  # at once: what is kept is computed again where its worker dies
                if outcome is None:
                    continue
                yield outcome
                if outcome.fatal:
                    self._drop()
                    return

    def _hand_out(self) -> Iterator[Outcome]:
        """Hands out as much as there is room for; yields what became of jobs that cannot be begun."""
        room = PER_THREAD * sum(self.client.nthreads().values()) + WAITING - len(self.flying)
        while room > 0 and (self.waiting or (self.suspects and not self.flying)):
            if self.waiting:
                job = self.waiting.popleft()
                if not self.suspects.keys().isdisjoint(job.after):
                    self.suspects[job.name] = job
                    continue
            else:
                job = self.suspects.pop(min(self.suspects, key=self.place.__getitem__))
                self.alone.add(job.name)
            stopped = held_up(job, self.failed)
            if stopped is not None:
                self.failed += stopped.failures
                yield stopped
                continue
            self._submit(job)
            room -= 1

    def _submit(self, job: Job) -> None:
        before = [self.flying[name][0] for name in job.after if name in self.flying]
        wants: dict[str, Any] = {"resources": {GPU: 1}} if job.on_device and on_gpu(self.work.settings) else {}
        self.handed += 1
        self.tell(Event.of("started", job))
        future = self.client.submit(
            run_on_worker, self.work.key, job, *before, key=f"{job.kind}-{self.work.key}-{self.handed}",
            priority=-self.handed, pure=False, **wants,
        )  # fmt: skip
        self.flying[job.name] = future, job

    def _landed(self, future: Any, job: Job) -> Outcome | None:
        """What became of a job; ``None`` for what was taken back, or is tried once more alone."""
        if future.status == "error" and job.name not in self.alone and _is_killed(future.exception()):
            self.suspects[job.name] = job
            self.tell(Event.of("retried", job, "workers died while it was on them; once more alone at the end"))
            return None
        outcome = _outcome(future, job)
        self.failed += outcome.failures if outcome is not None else ()
        return outcome

    def _call_back(self) -> None:
        """Takes back what no worker has begun; what is being done is waited for."""
        if not self.called_back:
            self.called_back = True
            self.client.run(call_back, self.work.key, on_error="ignore")
        begun = {key for keys in self.client.processing().values() for key in keys}
        back = [name for name, (future, _) in self.flying.items() if future.key not in begun and not future.done()]
        self.client.cancel([self.flying.pop(name)[0] for name in back])

    def _drop(self) -> None:
        self.client.cancel([future for future, _ in self.flying.values()])
        self.flying.clear()


def _is_killed(error: BaseException) -> bool:
    return type(error).__name__ == "KilledWorker"


def _outcome(future: Any, job: Job) -> Outcome | None:
    """What a worker sent back; ``None`` for what was taken back. A job that kills its workers is a failure."""
    if future.cancelled():
        return None
    if future.status == "error":
        error = future.exception()
        why = told(error)
        if _is_killed(error):
            why = f"every worker that tried it died (out of memory?): {why}"
        fatal = str(error) if isinstance(error, StoreError) else ""
        return Outcome(job.name, failures=(Failure(job.name, why, job.units),), fatal=fatal)
    return future.result()

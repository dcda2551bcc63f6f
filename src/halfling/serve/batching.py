"""The queue of one model: sequences of many requests are computed together, in a thread of their own."""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from halfling.engine import Answer, Encoded
from halfling.exits.policy import ExitPolicy
from halfling.serve.meter import Meter
from halfling.serve.refusal import Refusal
from halfling.serve.settings import ServeSettings

log = logging.getLogger("halfling.serve")

_LONGEST_RETRY = 60

_MOST_SPARE_TOKENS = 16_384
"""Of work that waits until nobody else does."""


@dataclass(eq=False)
class Job:
    """The sequences of one request, and what is known of them."""

    sequences: Sequence[Encoded]
    done: asyncio.Future["Job"]
    began: float
    policy: ExitPolicy | None = None
    answers: dict[int, Answer] = field(default_factory=dict)
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    refusal: Refusal | None = None

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for what is not computed yet."""
        return self.refusal is not None or self.done.cancelled()


Part = tuple[Job, int]
"""A sequence of a job, by its number."""


class Batcher:
    """Takes jobs from the event loop and answers them in batches.

    A batch holds what waits, oldest first, under one policy, up to `max_batch_tokens`; a job may be spread over
    several. While one is computed the next gathers: nobody waits for a batch to become full. What nobody waits for is
    done step by step while there is no job: a job that arrives waits for one step at most.
    """

    def __init__(
        self,
        name: str,
        answer: Callable[[Sequence[Encoded], ExitPolicy | None], list[Answer]],
        settings: ServeSettings,
        meter: Meter,
        num_layers: int = 1,
    ) -> None:
        self.name, self._answer, self._meter, self._num_layers = name, answer, meter, num_layers
        self.max_batch_tokens, self.max_queue_tokens = settings.max_batch_tokens, settings.max_queue_tokens
        self._changed = threading.Condition()
        self._waiting: OrderedDict[Job, int] = OrderedDict()  # with how many of its sequences were taken
        self._batch: list[Part] = []  # under way
        self._spare: deque[tuple[Iterator[None], int]] = deque()  # with its tokens
        self._spare_tokens = 0
        self._tokens = 0  # of what waits
        # Seconds a token, as seen lately: as they exited, and if all had gone through all layers.
        self._pace = self._full_pace = 1e-4
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._gauge = meter.queue_tokens.labels(name)

    @property
    def is_alive(self) -> bool:
        """Whether somebody computes."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin to compute."""
        self._thread = threading.Thread(target=self._work, name=f"compute {self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer what was accepted, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        while (thread := self._thread) is not None and thread.is_alive():
            thread.join()

    async def ask(self, sequences: Sequence[Encoded], policy: ExitPolicy | None = None) -> Job:
        """Return the sequences' job when all of them are answered; by the model's own policy where none is given.

        Raises:
            Refusal: There is too much to do, or the model fails.
        """
        job = Job(sequences, asyncio.get_running_loop().create_future(), time.perf_counter(), policy)
        if not sequences:
            return job
        tokens = sum(len(one.ids) for one in sequences)
        with self._changed:
            self._require_room(tokens)
            self._waiting[job] = 0
            self._tokens += tokens
            self._gauge.set(self._tokens)
            self._changed.notify()
        try:
            return await job.done
        except (asyncio.CancelledError, Refusal):
            self._forget(job)
            raise

    def expected(self, tokens: int) -> tuple[float, float]:
        """Return what a request of so many tokens is expected to wait, and to take at full depth, in seconds.

        By what was seen lately; nobody has promised it.
        """
        with self._changed:
            before = self._tokens + sum(len(job.sequences[number].ids) for job, number in self._batch)
        return before * self._pace, tokens * self._full_pace

    def later(self, work: Iterator[None], tokens: int) -> bool:
        """Have work done, step by step, when nobody waits for anything; return False where there is no room for it.

        A stop does not wait for it.
        """
        with self._changed:
            has_room = self._spare_tokens + tokens <= _MOST_SPARE_TOKENS
            if has_room:
                self._spare.append((work, tokens))
                self._spare_tokens += tokens
                self._changed.notify()
        return has_room

    def _forget(self, job: Job) -> None:
        """Take out of the queue what is not begun of a job."""
        with self._changed:
            if (taken := self._waiting.pop(job, None)) is not None:
                self._tokens -= sum(len(one.ids) for one in job.sequences[taken:])
                self._gauge.set(self._tokens)

    def _require_room(self, tokens: int) -> None:
        if tokens > self.max_queue_tokens:
            most = self.max_queue_tokens
            raise Refusal("Validation", f"{tokens} tokens: a request may have {most} at most: split it", status=413)
        if self._stopping:
            raise Refusal("Overloaded", "the service is stopping", retry_after=1)
        if self._tokens + tokens > self.max_queue_tokens:
            after = min(_LONGEST_RETRY, math.ceil(self._tokens * self._pace))
            raise Refusal("Overloaded", f"{self.name} is overloaded", retry_after=max(1, after))

    def _work(self) -> None:
        """Compute batch after batch; whoever dies of one refuses it and leaves a successor."""
        try:
            while self._take():
                if self._batch:
                    self._compute(self._batch)
                else:
                    self._do_spare()
        except BaseException as error:
            log.error("worker died", extra={"model": self.name, "error": type(error).__name__})
            self._meter.deaths.labels(self.name).inc()
            self._refuse(self._batch, error)
            with self._changed:
                waiting = (one for job, taken in self._waiting.items() for one in job.sequences[taken:])
                self._tokens = sum(len(one.ids) for one in waiting)
            self.start()

    def _take(self) -> bool:
        """Take what is computed together next; return False when all is done and no more will come.

        The batch is empty where nobody waits, and there is spare work.
        """
        with self._changed:
            self._batch = []
            while not self._batch:
                while not self._waiting:
                    if self._stopping:
                        return False
                    if self._spare:
                        return True
                    self._changed.wait()
                self._gather()
            self._gauge.set(self._tokens)
        return True

    def _do_spare(self) -> None:
        """Do a step of what nobody waits for."""
        work, tokens = self._spare[0]
        try:
            next(work)
            return
        except StopIteration:
            pass
        except Exception as error:
            log.error("spare work failed", extra={"model": self.name, "error": type(error).__name__})
        with self._changed:
            self._spare.popleft()
            self._spare_tokens -= tokens

    def _gather(self) -> None:
        tokens = 0
        while self._waiting:
            job, number = next(iter(self._waiting.items()))
            if job.is_over:
                self._forget(job)
                continue
            length = len(job.sequences[number].ids)
            full = tokens + length > self.max_batch_tokens
            if self._batch and (full or job.policy != self._batch[0][0].policy):
                return
            self._batch.append((job, number))  # before it leaves the queue: a worker may die here too
            if number + 1 < len(job.sequences):
                self._waiting[job] = number + 1
            else:
                del self._waiting[job]
            tokens += length
            self._tokens -= length

    def _compute(self, batch: list[Part]) -> None:
        jobs = list(dict.fromkeys(job for job, _ in batch))
        begun = time.perf_counter()
        for job in jobs:
            if not job.answers:
                job.queue_seconds = begun - job.began
        try:
            answers = self._answer([job.sequences[number] for job, number in batch], batch[0][0].policy)
        except Exception as error:
            # What is wrong with one request is not laid on its neighbours.
            if len(jobs) > 1:
                for alone in (job for job in jobs if not job.is_over):
                    self._compute([part for part in batch if part[0] is alone])
            else:
                log.error("batch failed", extra={"model": self.name, "error": type(error).__name__})
                self._refuse(batch, error)
            return
        seconds = time.perf_counter() - begun
        tokens = sum(len(job.sequences[number].ids) for job, number in batch)
        computed = sum(
            len(job.sequences[number].ids) * answer.exit_layer / self._num_layers
            for (job, number), answer in zip(batch, answers, strict=True)
        )
        self._pace += 0.1 * (seconds / tokens - self._pace)
        self._full_pace += 0.1 * (seconds / computed - self._full_pace)
        self._meter.computed(self.name, seconds, tokens, answers)
        for (job, number), answer in zip(batch, answers, strict=True):
            job.answers[number] = answer
        for job in jobs:
            job.compute_seconds += seconds
        self._deliver([job for job in jobs if len(job.answers) == len(job.sequences)])

    def _refuse(self, batch: list[Part], error: BaseException) -> None:
        jobs = list(dict.fromkeys(job for job, _ in batch if not job.done.done()))
        for job in jobs:
            job.refusal = Refusal("Backend", f"{self.name} failed ({type(error).__name__}): send the request again")
        self._deliver(jobs)

    def _deliver(self, jobs: list[Job]) -> None:
        """Tell the event loops that wait: once for each batch."""
        for loop in dict.fromkeys(job.done.get_loop() for job in jobs):
            with contextlib.suppress(RuntimeError):  # a loop that is closed waits no longer
                loop.call_soon_threadsafe(self._settle, [job for job in jobs if job.done.get_loop() is loop])

    def _settle(self, jobs: list[Job]) -> None:
        for job in jobs:
            if job.done.done():
                continue
            if job.refusal is not None:
                job.done.set_exception(job.refusal)
            else:
                self._meter.queue_seconds.labels(self.name).observe(job.queue_seconds)
                job.done.set_result(job)

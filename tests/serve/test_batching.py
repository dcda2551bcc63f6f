"""The queue: what is computed together, what is refused, and what becomes of those whose worker dies."""

import asyncio
import ctypes
import logging
import threading
import time

import numpy as np
import pytest

from halfling.engine import Answer, Encoded
from halfling.exits.policy import ExitPolicy
from halfling.serve.batching import _MOST_SPARE_TOKENS, Batcher
from halfling.serve.meter import Meter
from halfling.serve.refusal import Refusal
from halfling.serve.settings import ServeSettings


def sequence(length, number=0):
    return Encoded(np.full(length, number), np.zeros(1, np.int64))


class Engine:
    """Answers each sequence with its first id as the logit; `gate` holds it, `breaks` says what goes wrong when."""

    def __init__(self):
        self.batches, self.gate, self.breaks = [], threading.Event(), lambda sequences: None
        self.gate.set()
        self.begun = threading.Event()

    def answer(self, sequences, policy):
        self.batches.append([len(one.ids) for one in sequences])
        self.begun.set()
        while not self.gate.wait(0.01):  # in steps, as what is raised in a thread waits for the next
            pass
        if error := self.breaks(sequences):
            raise error
        return [Answer(np.full((1, 2), one.ids[0], np.float32), 1, 0.5) for one in sequences]


def batcher(engine, **settings):
    meter = Meter()
    meter.announce("any", ExitPolicy(layers=(1,), thresholds=()))
    return Batcher("any", engine.answer, ServeSettings(**settings), meter), meter


def metric(meter, name):
    return meter.registry.get_sample_value(name, {"model": "any"})


def run(work):
    return asyncio.run(asyncio.wait_for(work(), 20))


async def begun(engine):
    """Wait until a batch is under way."""
    while not engine.begun.is_set():
        await asyncio.sleep(0.001)


def said(job):
    return [float(job.answers[number].logits[0, 0]) for number in range(len(job.sequences))]


def test_what_waits_is_computed_together_up_to_so_many_tokens_oldest_first():
    engine = Engine()
    engine.gate.clear()
    queue, meter = batcher(engine, max_batch_tokens=10)

    async def work():
        queue.start()
        first = asyncio.create_task(queue.ask([sequence(3, 1)]))
        await begun(engine)
        others = [
            asyncio.create_task(queue.ask([sequence(length, number) for length in lengths]))
            for number, lengths in ((2, [4]), (3, [4, 4, 4]), (4, [50]), (5, [1]))
        ]
        await asyncio.sleep(0)
        assert metric(meter, "halfling_queue_tokens") == 4 + 12 + 50 + 1
        engine.gate.set()
        found = [said(job) for job in (await first, *[await one for one in others])]
        assert found == [[1], [2], [3, 3, 3], [4], [5]]
        queue.stop()

    run(work)
    assert engine.batches == [[3], [4, 4], [4, 4], [50], [1]]
    assert metric(meter, "halfling_queue_tokens") == 0
    assert metric(meter, "halfling_batch_tokens_count") == 5


def test_more_than_the_queue_holds_is_refused_and_told_when_to_come_back():
    engine = Engine()
    engine.gate.clear()
    queue, _ = batcher(engine, max_queue_tokens=20)

    async def work():
        queue.start()
        under_way = asyncio.create_task(queue.ask([sequence(15)]))
        await begun(engine)
        waits = asyncio.create_task(queue.ask([sequence(12)]))
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as crowded:
            await queue.ask([sequence(9)])
        assert (crowded.value.status, crowded.value.retry_after) == (429, 1)
        with pytest.raises(Refusal) as never:
            await queue.ask([sequence(21)])
        assert (never.value.status, never.value.retry_after) == (413, None)
        fits = asyncio.create_task(queue.ask([sequence(8)]))
        engine.gate.set()
        await asyncio.gather(under_way, waits, fits)
        queue.stop()

    run(work)


def test_a_request_that_fails_takes_no_neighbour_with_it():
    engine = Engine()
    engine.breaks = lambda some: ValueError("no") if any(one.ids[0] == 7 for one in some) else None
    engine.gate.clear()
    queue, meter = batcher(engine)

    async def work():
        queue.start()
        first = asyncio.create_task(queue.ask([sequence(2)]))
        await begun(engine)
        tasks = [asyncio.create_task(queue.ask([sequence(3, number)] * 2)) for number in (6, 7, 8)]
        await asyncio.sleep(0)
        engine.gate.set()
        await first
        good, bad, other = await asyncio.gather(*tasks, return_exceptions=True)
        assert (said(good), said(other)) == ([6, 6], [8, 8])
        assert (bad.status, bad.error_type) == (424, "Backend")
        queue.stop()

    run(work)
    assert metric(meter, "halfling_worker_deaths_total") == 0


def test_a_worker_that_is_killed_is_replaced_and_its_requests_are_refused():
    engine = Engine()
    engine.gate.clear()
    queue, meter = batcher(engine, max_batch_tokens=4)

    async def work():
        queue.start()
        lost = [asyncio.create_task(queue.ask([sequence(2, number)])) for number in (1, 2)]
        await begun(engine)
        waits = asyncio.create_task(queue.ask([sequence(3, 3)]))
        await asyncio.sleep(0)
        worker = queue._thread
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(SystemExit))
        # The first batch dies; what waited is answered by the next worker.
        (one, *_) = await asyncio.gather(lost[0], return_exceptions=True)
        assert (one.status, one.error_type) == (424, "Backend")
        engine.gate.set()
        assert said(await waits) == [3]
        await asyncio.gather(lost[1], return_exceptions=True)
        assert lost[1].done()
        worker.join(10)
        assert not worker.is_alive()
        assert queue.is_alive
        queue.stop()
        assert not queue.is_alive

    run(work)
    assert metric(meter, "halfling_worker_deaths_total") == 1


def test_a_stop_answers_what_was_accepted_and_takes_nothing_more():
    engine = Engine()
    engine.gate.clear()
    queue, _ = batcher(engine, max_batch_tokens=1)

    async def work():
        queue.start()
        accepted = [asyncio.create_task(queue.ask([sequence(2, number)])) for number in range(20)]
        await begun(engine)
        stopping = asyncio.create_task(asyncio.to_thread(queue.stop))
        while not queue._stopping:
            await asyncio.sleep(0.001)
        with pytest.raises(Refusal, match="stopping"):
            await queue.ask([sequence(2)])
        engine.gate.set()
        assert [said(await one) for one in accepted] == [[number] for number in range(20)]
        await stopping

    run(work)
    assert len(engine.batches) == 20


def test_nobody_computes_for_who_has_gone():
    engine = Engine()
    engine.gate.clear()
    queue, _ = batcher(engine, max_batch_tokens=4)

    async def work():
        queue.start()
        first = asyncio.create_task(queue.ask([sequence(2)]))
        await begun(engine)
        gone = asyncio.create_task(queue.ask([sequence(3)]))
        await asyncio.sleep(0)
        gone.cancel()
        stays = asyncio.create_task(queue.ask([sequence(4)]))
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(first, stays)
        queue.stop()

    run(work)
    assert engine.batches == [[2], [4]]


def test_what_is_not_begun_of_a_request_that_was_left_leaves_the_queue_at_once():
    engine = Engine()
    engine.gate.clear()
    queue, meter = batcher(engine, max_batch_tokens=4, max_queue_tokens=20)

    async def work():
        queue.start()
        gone = asyncio.create_task(queue.ask([sequence(4, number) for number in range(5)]))
        await begun(engine)
        with pytest.raises(Refusal):
            await queue.ask([sequence(5)])
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert metric(meter, "halfling_queue_tokens") == 0
        stays = asyncio.create_task(queue.ask([sequence(10, 1), sequence(10, 2)]))  # there is room again
        await asyncio.sleep(0)
        engine.gate.set()
        assert said(await stays) == [1, 2]
        queue.stop()

    run(work)
    assert engine.batches == [[4], [10], [10]]
    assert metric(meter, "halfling_queue_tokens") == 0


def test_nothing_more_is_computed_of_a_request_that_failed():
    engine = Engine()
    engine.breaks = lambda some: ValueError("no") if some[0].ids[0] == 7 else None
    queue, meter = batcher(engine, max_batch_tokens=3)

    async def work():
        queue.start()
        with pytest.raises(Refusal):
            await queue.ask([sequence(3, 7), *[sequence(3)] * 500])
        assert metric(meter, "halfling_queue_tokens") == 0
        queue.stop()

    run(work)


def test_requests_of_different_policies_are_computed_apart():
    engine = Engine()
    engine.gate.clear()
    queue, _ = batcher(engine)
    quick = ExitPolicy.uniform((1, 2), 0.5)

    async def work():
        queue.start()
        first = asyncio.create_task(queue.ask([sequence(2)]))
        await begun(engine)
        rest = [
            asyncio.create_task(queue.ask([sequence(length)], policy))
            for length, policy in ((3, None), (4, None), (5, quick), (6, ExitPolicy.uniform((1, 2), 0.5)), (7, None))
        ]
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(first, *rest)
        queue.stop()

    run(work)
    assert engine.batches == [[2], [3, 4], [5, 6], [7]]


def test_no_sequences_are_no_work():
    queue, _ = batcher(Engine())
    assert run(lambda: queue.ask([])).answers == {}


def test_spare_work_is_done_in_steps_and_whoever_comes_is_answered_first():
    engine = Engine()
    engine.gate.clear()
    queue, _ = batcher(engine)
    seen = []

    async def work():
        loop, arrived = asyncio.get_running_loop(), []

        def steps():
            for number in range(3):
                seen.append(number)
                if number == 1:  # somebody comes while a step is done
                    arrived.append(asyncio.run_coroutine_threadsafe(queue.ask([sequence(5, 8)]), loop))
                    while not queue._waiting:
                        time.sleep(0.001)
                yield
            seen.append("done")

        queue.start()
        first = asyncio.create_task(queue.ask([sequence(2, 7)]))
        await begun(engine)
        second = asyncio.create_task(queue.ask([sequence(3, 7)]))
        await asyncio.sleep(0)
        assert queue.later(steps(), 9)
        await asyncio.sleep(0.05)
        assert seen == []  # somebody is computed for, and somebody waits
        engine.gate.set()
        answer = engine.answer
        queue._answer = lambda *given: seen.append(len(given[0][0].ids)) or answer(*given)
        await asyncio.gather(first, second)
        while not arrived:
            await asyncio.sleep(0.001)
        assert said(await asyncio.wrap_future(arrived[0])) == [8]
        while seen[-1] != "done":
            await asyncio.sleep(0.001)
        queue.stop()

    run(work)
    assert seen == [3, 0, 1, 5, 2, "done"]


def test_spare_work_is_bounded_and_a_failing_one_harms_nobody(caplog):
    queue, _ = batcher(Engine())
    done = []

    def breaks():
        raise ValueError("Anna lives in Rome")
        yield

    def works():
        yield done.append(1)

    async def work():
        assert queue.later(breaks(), _MOST_SPARE_TOKENS - 5)
        assert not queue.later(works(), 6)
        assert queue.later(works(), 5)
        queue.start()
        while not done or queue._spare:
            await asyncio.sleep(0.001)
        assert queue.later(works(), _MOST_SPARE_TOKENS)
        assert said(await queue.ask([sequence(2, 4)])) == [4]
        queue.stop()

    with caplog.at_level(logging.ERROR, "halfling.serve"):
        run(work)
    assert [record.getMessage() for record in caplog.records] == ["spare work failed"]
    assert "Anna" not in str(caplog.records[0].__dict__)


def test_what_a_request_is_expected_to_take_follows_what_was_computed():
    engine = Engine()
    engine.gate.clear()
    queue, _ = batcher(engine)

    async def work():
        queue.start()
        first = asyncio.create_task(queue.ask([sequence(100)]))
        await begun(engine)
        second = asyncio.create_task(queue.ask([sequence(50)]))
        await asyncio.sleep(0.1)
        assert queue.expected(30) == pytest.approx((150 / 10_000, 30 / 10_000))  # under way, and what waits
        engine.gate.set()
        await asyncio.gather(first, second)
        while queue.expected(30)[0]:
            await asyncio.sleep(0.001)
        assert queue.expected(30)[1] > 1.05 * 30 / 10_000  # the first batch took a tenth of a second
        queue.stop()

    run(work)

"""Clients that go before they are answered: nothing is begun for them, and nobody waits because of them."""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable

import httpx2
import pytest

from halfling.serve.meter import Meter
from halfling.serve.model import Served
from halfling.serve.run import server_of
from halfling.serve.settings import ServeSettings

TEXTS = [["Anna lives in Rome"]] * 8


class Held:
    """A service in this process whose model computes nothing while `gate` is closed."""

    def __init__(self, folder):
        settings = ServeSettings(threads=1, max_batch_tokens=8, patience_seconds=20)
        self.meter, self.gate, self.batches = Meter(), threading.Event(), []
        served = Served("nli", folder, "native", settings, self.meter)
        self.answer, served.batcher._answer = served.batcher._answer, self.held
        self.server = server_of({"nli": served}, settings, self.meter)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = "http://{}:{}".format(*self.listening.getsockname())
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listening]}, daemon=True)
        self.thread.start()

    def held(self, sequences, policy):
        self.batches.append(len(sequences))
        assert self.gate.wait(30)
        return self.answer(sequences, policy)

    def metric(self, name, **labels):
        return self.meter.registry.get_sample_value(name, labels) or 0

    @property
    def waiting(self):
        return self.metric("halfling_queue_tokens", model="nli")

    def left(self, endpoint="/predict", status="499"):
        return self.metric("halfling_requests_total", endpoint=endpoint, status=status)

    def send(self, times=1):
        """Send requests and do not wait for their answers."""
        body = json.dumps({"inputs": TEXTS}).encode()
        head = f"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        wire = socket.create_connection(self.listening.getsockname(), timeout=20)
        wire.sendall((head.encode() + b"\r\n" + body) * times)
        return wire

    def stop(self):
        self.gate.set()
        self.server.should_exit = True
        self.thread.join(30)


def until(what: Callable[[], bool]) -> None:
    """Wait for something that comes soon."""
    ends = time.monotonic() + 60
    while not what():
        assert time.monotonic() < ends, "does not come"
        time.sleep(0.005)


@pytest.fixture
def service(folders):
    held = Held(folders["nli"])
    yield held
    held.stop()


def ask(service):
    """Ask for one text from a thread of its own; return what will hold the answer."""
    found = []
    body = {"inputs": "Anna lives in Rome"}
    thread = threading.Thread(
        target=lambda: found.append(httpx2.post(service.address + "/predict", json=body, timeout=30)), daemon=True
    )
    thread.start()
    return thread, found


@pytest.mark.parametrize("requests", [1, 3], ids=["alone", "with others behind it on the connection"])
def test_who_has_gone_leaves_the_queue_and_the_next_is_answered(requests, service, caplog):
    first, one = ask(service)
    until(lambda: service.batches == [1])
    gone = [service.send(requests) for _ in range(5)]
    until(lambda: service.waiting >= 5 * 6 * len(TEXTS))
    second, other = ask(service)
    until(lambda: service.metric("halfling_requests_under_way") == 7)
    for wire in gone:
        wire.close()
    until(lambda: service.left() == 5)
    assert service.waiting == 6  # of the second
    service.gate.set()
    first.join()
    second.join()
    assert [said.status_code for said in (*one, *other)] == [200, 200]
    assert one[0].json() == other[0].json()
    assert service.batches == [1, 1]
    assert service.left(status="200") == 2
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_who_goes_while_its_first_batch_is_computed_has_no_second(service):
    wire = service.send()
    until(lambda: service.batches == [1])
    wire.close()
    until(lambda: service.left() == 1)
    service.gate.set()
    thread, said = ask(service)
    thread.join()
    assert said[0].status_code == 200
    assert service.batches == [1, 1]


def test_who_says_that_it_sends_no_more_has_gone(service):
    with service.send() as wire:
        until(lambda: service.batches == [1])
        wire.shutdown(socket.SHUT_WR)
        until(lambda: service.left() == 1)
        assert wire.recv(1) == b""


def test_who_stays_is_answered_however_many_go(service):
    service.gate.set()
    with service.send(3) as wire:
        seen = b""
        while seen.count(b"HTTP/1.1 200") < 3 or not seen.endswith(b"]"):
            seen += wire.recv(65536)
    until(lambda: service.left(status="200") == 3)
    assert service.left() == 0

"""Broken, huge, slow and many: one right answer or a clear refusal each, nothing hung."""

import asyncio
import json
import socket
import time
from urllib.parse import urlsplit

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

JSON = {"content-type": "application/json"}
FORM = {"error", "error_type"}


def connected(service):
    where = urlsplit(service.address)
    return socket.create_connection((where.hostname, where.port), timeout=20)


def answer(wire):
    """Read all that comes until the other side closes or an answer is whole; return status and body."""
    seen = b""
    while True:
        head, found, body = seen.partition(b"\r\n\r\n")
        if found:
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            if len(body) >= length:
                return int(head.split()[1]), json.loads(body[:length])
        part = wire.recv(65536)
        assert part, f"closed after {seen!r}"
        seen += part


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe{}",
        b'{"inputs": "\\ud800"}',
        b'{"inputs": NaN}',
        b"[" * 100_000,
        b'{"inputs": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"inputs": ' + b"9" * 5_000 + b"}",
        b'{"inputs": {"a": 1}}',
        b'{"inputs": [["a", "b", "c"]]}',
        b'{"inputs": [[]]}',
        b'{"inputs": [["a"], "b"]}',
        b'{"inputs": "a", "return_exits": "yes"}',
        b'{"inputs": "a", "parameters": []}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_body_that_is_no_request_is_refused_in_the_contract_s_form(body, service):
    for path in ("/predict", "/predict_tokens"):
        said = httpx2.post(service.address + path, content=body, headers=JSON, timeout=30)
        assert said.status_code == 422, said.text
        assert {*said.json()} == FORM
    said = httpx2.post(service.address + "/classify", content=body, headers=JSON, timeout=30)
    assert said.status_code == 422
    assert {*said.json()} == {"error"}
    assert service.get("/health").status_code == 200


def test_a_slash_too_many_leads_to_no_other_host(service):
    for path in ("/predict/", "/models/nli/", "/models/nli/predict/"):
        said = httpx2.post(
            service.address + path, content=b"{}", headers=JSON | {"host": "elsewhere.example"}, timeout=30
        )
        assert (said.status_code, said.headers.get("location")) == (404, None)


def test_ten_megabytes_are_refused_whether_their_length_is_said_or_not(service):
    huge = json.dumps({"inputs": "a" * 10_000_000}).encode()
    pieces = (huge[n : n + 100_000] for n in range(0, len(huge), 100_000))
    for content in (huge, pieces):
        said = httpx2.post(service.address + "/predict", content=content, headers=JSON, timeout=30)
        assert (said.status_code, {*said.json()}) == (413, FORM)
    assert service.post("/predict", {"inputs": "a"}).status_code == 200


def test_more_tokens_than_the_queue_may_ever_hold_are_too_large(service):
    said = service.post("/predict_tokens", {"inputs": "Anna " * 100_000})
    assert (said.status_code, said.json()["error_type"]) == (413, "Validation")


@pytest.mark.parametrize(
    "part",
    [b"", b"POST /predict HT", b'POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 30\r\n\r\n{"inp'],
    ids=["nothing", "half a head", "half a body"],
)
def test_a_request_that_does_not_arrive_is_given_up(part, start):
    service = start("--patience-seconds", "0.5")
    with connected(service) as wire:
        wire.sendall(part)
        begun = time.monotonic()
        status, said = answer(wire)
        assert (status, {*said}) == (408, FORM)
        assert wire.recv(1) == b""
        assert time.monotonic() - begun < 15
    counted = 'halfling_requests_total{endpoint="/predict",status="408"} 1.0' in service.get("/metrics").text
    assert counted == (b"content-length" in part)
    # Who takes long between two requests is not slow: uvicorn's own time for idle connections begins.
    with connected(service) as wire:
        for _ in range(2):
            wire.sendall(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
            assert answer(wire)[0] == 200
            time.sleep(0.8)


CHUNKED = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"GET /health HTTP/1.1\r\n", b"name: value\r\n" * 5000),
        (b"GET /health HTTP/1.1\r\nname: ", b"a" * 65536),
        (b"GET /", b"a" * 65536),
        (CHUNKED + b"2\r\n{}\r\n0\r\n", b"name: value\r\n" * 5000),
    ],
    ids=["headers", "one header", "an address", "trailers"],
)
def test_what_is_sent_beside_a_body_has_an_end(head, piece, service):
    with connected(service) as wire:
        wire.sendall(head)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # it reads no further
            wire.sendall(piece * 1000)
    with connected(service) as wire:
        enough = 262_145 + 2 * head.count(b"{}")  # one byte too many, beside the body
        wire.sendall((head + piece * 5)[:enough])
        status, said = answer(wire)
        assert (status, {*said}) == (431, FORM)


def test_large_bodies_and_small_chunks_are_no_large_heads(service):
    body = json.dumps({"inputs": "Anna", "more": "a" * 1_500_000}).encode()
    pieces = (body[n : n + 4096] for n in range(0, len(body), 4096))
    for content in (body, pieces):
        assert httpx2.post(service.address + "/predict", content=content, headers=JSON, timeout=30).status_code == 200


def test_who_does_not_read_is_given_up(start):
    service = start("--patience-seconds", "0.5")
    whole = 1000 * len(service.get("/openapi.json").content)
    assert whole > 8_000_000
    with connected(service) as wire:
        # The system keeps what its buffers hold, with this one 4 MB: a much smaller one takes minutes to empty.
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        wire.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n" * 1000)
        time.sleep(2.5)
        seen = 0
        try:
            while part := wire.recv(1 << 20):
                seen += len(part)
        except ConnectionResetError:
            pass
    assert seen < whole
    assert service.get("/health").status_code == 200


def test_what_is_not_http_is_refused(service):
    with connected(service) as wire:
        wire.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        status, said = answer(wire)
        assert (status, {*said}) == (400, FORM)


def test_more_requests_at_once_than_allowed_are_refused_and_health_still_answers(start):
    service = start("--max-concurrent-requests", "2")
    body = b'{"inputs": "a"}'
    head = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n"
    with connected(service) as one, connected(service) as other:
        for wire in (one, other):
            wire.sendall(head + body[:5])
        while "halfling_requests_under_way 2.0" not in service.get("/metrics").text:
            time.sleep(0.01)
        refused = service.post("/predict", {"inputs": "a"})
        assert (refused.status_code, refused.json()["error_type"]) == (429, "Overloaded")
        assert refused.headers["retry-after"] == "1"
        assert service.get("/health").status_code == 200
        for wire in (one, other):
            wire.sendall(body[5:])
            assert answer(wire)[0] == 200
    assert service.post("/predict", {"inputs": "a"}).status_code == 200


def test_a_thousand_connections_have_a_right_answer_or_429_each(start, alone):
    service = start("--max-concurrent-requests", "100", "--max-queue-tokens", "2000")
    where = urlsplit(service.address)
    texts = ["Anna lives in Rome", "no", "yes maybe Anna"]
    expected = [answer.label for answer in alone("intents").predict(texts)]

    async def one(number):
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        body = json.dumps({"inputs": texts[number % 3], "model": "intents"}).encode()
        head = f"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
        said = await reader.read()
        writer.close()
        head, _, body = said.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.lower(), json.loads(body)

    async def all_of_them():
        return await asyncio.wait_for(asyncio.gather(*map(one, range(1000))), 60)

    found = asyncio.run(all_of_them())
    for number, (status, head, body) in enumerate(found):
        assert status in (200, 429)
        if status == 200:
            assert body[0]["label"] == expected[number % 3]
        else:
            assert body["error_type"] == "Overloaded"
            assert b"retry-after: " in head
    assert sum(status == 200 for status, *_ in found) >= 100
    assert service.post("/predict", {"inputs": "a"}).status_code == 200


def test_a_stop_answers_what_was_accepted_and_ends_well(start):
    service = start("--max-batch-tokens", "1")
    where = urlsplit(service.address)
    body = json.dumps({"inputs": [["Anna lives in Rome"]] * 32, "model": "nli"}).encode()
    head = f"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"

    async def work():
        wires = [await asyncio.open_connection(where.hostname, where.port) for _ in range(40)]
        for _, writer in wires:
            writer.write(head.encode() + body)
        while "halfling_requests_under_way 40.0" not in (await asyncio.to_thread(service.get, "/metrics")).text:
            done = [reader for reader, _ in wires if reader._buffer]
            if len(done) > 20:
                break
        status = asyncio.create_task(asyncio.to_thread(service.stop))
        answers = await asyncio.gather(*(reader.read() for reader, _ in wires))
        for _, writer in wires:
            writer.close()
        return await status, answers

    status, answers = asyncio.run(asyncio.wait_for(work(), 60))
    assert status == 0
    assert all(one.startswith(b"HTTP/1.1 200") for one in answers)
    assert service.process.wait(10) == 0


def test_logs_hold_no_text_of_a_request(start):
    service = start()
    secret = "Zanzibar"
    service.post("/predict_tokens", {"inputs": f"{secret} {secret}"})
    service.post("/predict", {"inputs": [secret] * 5})
    service.get(f"/{secret}?text={secret}")
    assert service.stop() == 0
    while not any(line["event"] == "stopped" for line in service.lines):
        time.sleep(0.01)
    told = [line for line in service.lines if line["event"] == "request"]
    assert [(line["endpoint"], line["status"]) for line in told][-3:] == [
        ("/predict_tokens", 200),
        ("/predict", 422),
        ("other", 404),
    ]
    assert told[-3] | {"model": "names", "texts": 1} == told[-3]
    assert secret not in json.dumps(service.lines)


def test_whatever_the_openapi_allows_is_answered_or_refused_without_500(service):
    schema = schemathesis.openapi.from_dict(service.get("/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {operation.path for operation in operations} >= {
        "/predict",
        "/predict_tokens",
        "/classify",
        "/info",
        "/health",
    }
    with httpx2.Client(base_url=service.address, timeout=30) as client:
        for operation in operations:
            check(client, operation)


def check(client, operation):
    @given(case=operation.as_strategy())
    @settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def ask(case):
        body = {} if case.method == "GET" else {"json": case.body}
        said = client.request(case.method, operation.path, **body)
        assert said.status_code < 500, (case.body, said.text)
        if said.status_code >= 400:
            assert "error" in said.json()

    ask()

"""The process: what it listens to, what it refuses to start with, and what a browser may do with it."""

import socket
from pathlib import Path

import httpx2
import pytest


def test_without_a_host_only_this_machine_is_listened_to(service):
    assert service.address.startswith("http://127.0.0.1:")
    port = int(service.address.rpartition(":")[2])
    own = Path(f"/proc/{service.process.pid}")
    inodes = {str(one.readlink()) for one in (own / "fd").iterdir()}
    tables = (own / "net" / name for name in ("tcp", "tcp6"))
    rows = [line.split() for table in tables for line in table.read_text(encoding="ascii").splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]
    assert listening == [f"0100007F:{port:04X}"]


def test_another_origin_s_page_cannot_ask(service):
    foreign = {"origin": "http://elsewhere.example", "access-control-request-method": "POST"}
    asked = httpx2.options(service.address + "/predict", headers=foreign, timeout=30)
    assert asked.status_code == 405
    assert not [name for name in asked.headers if name.startswith("access-control")]
    # What a page may send without asking first is not read as JSON.
    for kind in ("text/plain", "application/x-www-form-urlencoded", None):
        headers = {"origin": "http://elsewhere.example"} | ({"content-type": kind} if kind else {})
        said = httpx2.post(service.address + "/predict", content=b'{"inputs": "a"}', headers=headers, timeout=30)
        assert said.status_code == 422


def test_a_port_that_is_taken_is_one_line(error, folders):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = error("serve", folders["names"], "--port", port)
    assert said == f"127.0.0.1 port {port}: cannot be listened at (Address already in use): choose another"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{names}", "{names}"], "two models are named names: say NAME={names}"),
        (["a b={names}"], "'a b' is no name of a model"),
        (["{names}x"], "no exported model here"),
        (["{names}", "--port", "70000"], "port: Input should be less than or equal to 65535"),
        (["{names}", "--threads", "0"], "threads: Input should be greater than or equal to 1"),
        (["{names}", "--patience-seconds", "soon"], "patience_seconds: Input should be a valid number"),
        (["{names}", "--host", "256.1.1.1"], "256.1.1.1 port 8000: cannot be listened at"),
    ],
)
def test_what_cannot_be_served_is_one_line(words, said, error, folders):
    names = str(folders["names"])
    assert said.replace("{names}", names) in error("serve", *(word.replace("{names}", names) for word in words))


def test_a_model_is_served_under_the_name_it_is_given(start, folders):
    service = start(f"org/intents={folders['intents']}", f"two={folders['intents']}")
    assert [one["id"] for one in service.get("/models").json()["data"]] == ["org/intents", "two"]
    said = service.post("/models/org/intents/predict", {"inputs": "Anna"})
    assert said.json() == service.post("/models/two/predict", {"inputs": "Anna"}).json()

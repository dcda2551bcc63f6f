"""Hosts that lie, stall or never end, and addresses that hold a password."""

import itertools
import lzma
import random
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from halfling.cli import main
from halfling.corpus.build import CorpusSettings, build_corpus
from halfling.corpus.sources import SourceSettings, download, open_source, patience
from halfling.corpus.sources.answer import answered
from halfling.corpus.sources.download import Download
from halfling.errors import HalflingError, without_secrets
from halfling.fingerprint import contents
from halfling.stage import Stage, run_stage

DOCUMENTS = ["The first document of the host.", "The second document of the host.", "The last document."]
FILE = lzma.compress("\n\n".join(DOCUMENTS).encode())
Answer = Callable[[Callable[[bytes], None], str, int], None]
"""Called with what sends bytes, the request and its number; it may send for ever, until the other end is gone."""


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "_FIRST_PIECE", 2**10)


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """A function that serves raw answers on a port of this machine, and returns the address."""
    servers = []

    def start(answer: Answer) -> str:
        numbers = itertools.count()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        if not (data := self.request.recv(2**16)):
                            return
                        request += data
                    answer(self.request.sendall, request.decode("latin-1"), next(numbers))
                except OSError:
                    pass

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads, block_on_close = True, False

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/cc-100"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def head(status: str = "206 Partial Content", **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def begin_of(request: str) -> int:
    return int(
        request.partition("Range: bytes=")[2].partition("-")[0]
        or request.partition("range: bytes=")[2].partition("-")[0]
    )


def good(send, request, number) -> None:
    begin = begin_of(request)
    body = FILE[begin:]
    send(head(Content_Range=f"bytes {begin}-{len(FILE) - 1}/{len(FILE)}", Content_Length=len(body)) + body)


def documents(address: str, cache: Path, seconds: float = 1.0, selection: str = "sample") -> list[str]:
    settings = SourceSettings(selection=selection, patience_seconds=seconds)
    return list(open_source(address, settings, ("sw",), cache).documents("sw"))


def refused(address: str, cache: Path, message: str, seconds: float = 1.0, selection: str = "sample") -> str:
    began = time.monotonic()
    with pytest.raises(HalflingError, match=message) as error:
        documents(address, cache, seconds, selection)
    assert time.monotonic() - began < 20  # not a measurement: nothing hangs
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 500
    return said


@pytest.fixture(params=["sample", "head"])
def selection(request) -> str:
    return request.param


def test_a_good_answer_is_read(serve, tmp_path, selection):
    assert documents(serve(good), tmp_path, selection=selection) == DOCUMENTS


def endless(send, first: bytes, pause: float = 0.0) -> None:
    send(first)
    while True:
        send(FILE[:1] if pause else bytes(2**16))
        time.sleep(pause)


def test_no_more_is_taken_than_was_promised(serve, tmp_path, selection):
    def answer(send, request, number):
        begin = begin_of(request)
        size = len(FILE) - begin
        endless(send, head(Content_Range=f"bytes {begin}-{len(FILE) - 1}/{len(FILE)}") + FILE[begin:][:size])

    assert documents(serve(answer), tmp_path, selection=selection) == DOCUMENTS
    assert (tmp_path / "sw.txt.xz").stat().st_size == len(FILE)


def test_an_answer_without_an_end_is_cut_at_a_piece(serve, tmp_path, selection, monkeypatch):
    monkeypatch.setattr(download, "_LARGEST_PIECE", 2**20)
    stream = lzma.compress(random.Random(0).randbytes(2**18).hex().encode())

    def answer(send, request, number):
        send(head("200 OK") + stream[:100_000])
        endless(send, b"")

    refused(serve(answer), tmp_path, r"sw\.txt\.xz: ", selection=selection)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2**20 + 100


@pytest.mark.parametrize(
    "first",
    [
        head(Content_Range=f"bytes 0-{len(FILE) - 1}/{len(FILE)}", Content_Length=len(FILE)),
        head("200 OK"),
        b"",
        b"HTTP/1.1 206 Partial Content\r\nX-Long: ",
        head("302 Found", Location="/elsewhere"),
        head("503 Service Unavailable"),
    ],
    ids=["body", "no length", "nothing", "header", "redirect", "busy"],
)
@pytest.mark.parametrize("pause", [0.05, 1000], ids=["a byte at a time", "silence"])
def test_a_host_that_stalls_is_given_up_in_time(serve, tmp_path, first, pause):
    said = refused(serve(lambda send, request, number: endless(send, first, pause)), tmp_path, r"sw\.txt\.xz: ")
    assert "try again later" in said or "sends on" in said


def test_one_byte_a_connection_is_no_progress(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "sleep", lambda seconds: None)
    size = 10**6

    def answer(send, request, number):
        begin = begin_of(request)
        send(
            head(Content_Range=f"bytes {begin}-{size - 1}/{size}", Content_Length=size - begin)
            + (FILE + FILE)[begin : begin + 1]
        )

    refused(serve(answer), tmp_path, r"sw\.txt\.xz: .*try again later", seconds=30)
    assert (tmp_path / "sw.txt.xz").stat().st_size < 100


def test_the_time_between_two_readings_is_not_the_hosts(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(patience, "LEAST_BYTES", 2**20)  # so that it never begins anew
    stream = lzma.compress(random.Random(0).randbytes(5000).hex().encode())

    def answer(send, request, number):
        begin = begin_of(request)
        piece = stream[begin:][: 2**10]
        send(
            head(Content_Range=f"bytes {begin}-{begin + len(piece) - 1}/{len(stream)}", Content_Length=len(piece))
            + piece
        )

    with (
        httpx2.Client() as client,
        Download(f"{serve(answer)}/sw", tmp_path / "c" / "sw", client, whole=False, patience_seconds=1.0) as file,
    ):
        found = file.read(500)
        time.sleep(1.2)
        while data := file.read(500):
            found += data
    assert found == stream


MANY = "9" * 5000


@pytest.mark.parametrize(
    "first",
    [
        head(Content_Range=f"bytes 0-{MANY}/{MANY}", Content_Length=len(FILE)),
        head(Content_Range=f"bytes {MANY}-{MANY}/{MANY}", Content_Length=len(FILE)),
        head(Content_Range="bytes -5--1/-7", Content_Length=len(FILE)),
        head(Content_Range="bytes 9-3/7", Content_Length=len(FILE)),
        head(Content_Range="bytes a-b/c", Content_Length=len(FILE)),
        head(Content_Range="", Content_Length=len(FILE)),
        head(Content_Length=len(FILE)),
        head("200 OK", Content_Length=-5),
        head("200 OK", Content_Length="many"),
        head("200 OK", Content_Length=MANY),
        head("200 OK", Content_Length=10**17),
        head("200 OK", Content_Length=len(FILE) + 1),
        head("200 OK", Content_Length=f"{len(FILE)}, {len(FILE) + 1}"),
        head("200 OK", Transfer_Encoding="chunked") + b"ZZZ\r\n",
        head("200 OK", Transfer_Encoding="chunked") + MANY.encode() + b"\r\n",
        head("416 Range Not Satisfiable", Content_Range=f"bytes */{MANY}"),
        head("503 Busy", Retry_After=MANY),
        head("429 Slow down", Retry_After="-5"),
        head("206 " + "x" * 10_000),
        head("999 What"),
        head("204 No Content"),
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"not HTTP at all\r\n\r\n",
        b"\x00" * 1000,
        b"",
        head("206 Partial Content", **{f"X_{number}": "y" * 1000 for number in range(500)}),
    ],
)
def test_an_answer_that_makes_no_sense_is_one_line(serve, tmp_path, first):
    refused(
        serve(lambda send, request, number: send(first + FILE[:50])),
        tmp_path,
        r"^http://127.0.0.1:\d+/cc-100/sw\.txt\.xz: ",
        seconds=0.3,
    )


def test_a_length_that_is_larger_than_the_file_of_the_host(serve, tmp_path):
    """A file that is shorter than the host says is kept as far as it goes, and asked for again."""

    def answer(send, request, number):
        if number:
            good(send, request, number)
        else:
            send(head("200 OK", Content_Length=10**17) + FILE[:40])

    assert documents(serve(answer), tmp_path, seconds=5) == DOCUMENTS


@pytest.mark.parametrize(
    "location",
    ["/cc-100/sw.txt.xz", "/cc-100/a", "file:///etc/passwd", "ftp://h/", "http://", "//", "http://[bad", "data:x"],
)
def test_redirections_that_lead_nowhere_are_one_line(serve, tmp_path, location):
    refused(
        serve(lambda send, request, number: send(head("302 Found", Location=location, Content_Length=0))),
        tmp_path,
        "mend the address|try again",
    )


def test_a_redirection_is_followed_and_its_endless_body_not_read(serve, tmp_path):
    real = serve(good)

    def answer(send, request, number):
        endless(send, head("301 Moved", Location=f"{real}/sw.txt.xz"))

    assert documents(serve(answer), tmp_path, seconds=5) == DOCUMENTS


@pytest.mark.parametrize("target", ["http://other.example/", "file:///etc/passwd", "ftp://other.example/x"])
def test_https_is_not_left(target):
    asked = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(302, headers={"Location": target})

    client = httpx2.Client(transport=httpx2.MockTransport(handle))
    request = client.build_request("GET", "https://user:secret@safe.example/cc-100/sw.txt.xz?token=secret")
    with pytest.raises(HalflingError, match="only https is followed") as error, answered(client, request):
        pass
    assert len(asked) == 1
    assert "secret" not in str(error.value)


def test_a_password_does_not_follow_to_another_host():
    asked = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("Authorization"))
        return (
            httpx2.Response(302, headers={"Location": "https://other.example/x"})
            if len(asked) == 1
            else httpx2.Response(200)
        )

    client = httpx2.Client(transport=httpx2.MockTransport(handle))
    with answered(client, client.build_request("GET", "https://user:secret@safe.example/x")):
        pass
    assert asked[0]
    assert asked[1] is None


def test_a_bomb_in_a_content_encoding_is_refused_unread(serve, tmp_path):
    for encoding in ("gzip", "br", "deflate, gzip", "x" * 5000):
        address = serve(
            lambda send, request, number, said=encoding: endless(send, head("200 OK", Content_Encoding=said))
        )
        refused(address, tmp_path, "Content-Encoding '[a-z, ]{2,20}': it must send it as it lies")


def test_a_host_that_knows_no_ranges_or_changes_the_file_is_named_and_the_beginning_kept(serve, tmp_path):
    def beginning(send, request, number, then=None):
        if number == 0:
            send(head(ETag='"one"', Content_Range=f"bytes 0-49/{len(FILE)}", Content_Length=50) + FILE[:50])
        else:
            then(send, begin_of(request))

    def whole(send, begin):
        send(head("200 OK", ETag='"one"', Content_Length=len(FILE)) + FILE)

    def changed(send, begin):
        body = FILE[begin:]
        send(
            head(ETag='"two"', Content_Range=f"bytes {begin}-{len(FILE) - 1}/{len(FILE)}", Content_Length=len(body))
            + body
        )

    for name, then, message in (
        ("whole", whole, "whole file where a part was asked for"),
        ("tag", changed, "changed on the host since"),
    ):
        address = serve(lambda send, request, number, then=then: beginning(send, request, number, then))
        refused(address, tmp_path / name, message, selection="sample")
        assert (tmp_path / name / "sw.txt.xz").read_bytes() == FILE[:50]


def test_a_file_with_long_padding_is_whole(serve, tmp_path):
    padded = FILE + bytes(2**17)

    def answer(send, request, number):
        begin = begin_of(request)
        send(head(Content_Range=f"bytes {begin}-{len(padded) - 1}/{len(padded)}") + padded[begin:])

    assert documents(serve(answer), tmp_path) == DOCUMENTS


def test_the_default_patience_is_less_than_a_minute():
    assert SourceSettings().patience_seconds < 60


SECRET = "hunter2"
ADDRESSES = [
    f"http://user:{SECRET}@127.0.0.1:9/cc-100/",
    f"http://user:pa@{SECRET}@127.0.0.1:9/",
    f"http://user:pa/{SECRET}@127.0.0.1:9/",
    f"http://user:pa {SECRET}@127.0.0.1:9/",
    f"http://{SECRET}@127.0.0.1:9/",
    f"http://user:{SECRET}@",
    f"http://user:{SECRET}@[bad/",
    f"http://user:{SECRET}@host:port/",
    f"HTTP://user:{SECRET}@127.0.0.1:9/",
    f"ftp://user:{SECRET}@127.0.0.1/",
    f"s3://bucket/x?X-Amz-Signature={SECRET}",
    f"http://127.0.0.1:9/cc-100/?token={SECRET}",
    f"http://127.0.0.1:9/cc-100/?{SECRET}",
    f"http://127.0.0.1:9/cc-100/#access_token={SECRET}",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_password_is_neither_printed_nor_written(address, tmp_path, capsys, monkeypatch):
    settings = CorpusSettings(languages=("sw",), workers=1, patience_seconds=0.2)
    with pytest.raises(HalflingError) as error:
        run_stage(Stage("corpus", build_corpus, settings, tmp_path / "out", {"source": address}))
    assert SECRET not in str(error.value)
    if " " not in address:  # which is refused before anything is written
        assert SECRET not in str(contents({"source": address}, settings, {}))
    for words in (
        ["corpus", "build", address, str(tmp_path / "out"), "languages=sw", "patience_seconds=0.2"],
        ["corpus", "plan", "--source", address, "languages=sw"],
    ):
        monkeypatch.setattr("sys.argv", ["halfling", *words])
        with pytest.raises(SystemExit):
            main.main()
        said = capsys.readouterr()
        assert SECRET not in said.out + said.err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET not in path.read_text(errors="replace")


def test_a_password_of_a_corpus_that_is_made_is_written_nowhere(serve, tmp_path):
    address = serve(good).replace("://", f"://user:{SECRET}@")
    run_stage(
        Stage(
            "corpus",
            build_corpus,
            CorpusSettings(languages=("sw",), chunks=1, workers=1),
            tmp_path / "out",
            {"source": address},
        )
    )
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("(https://u:p@h/x?a=b)", "(https://h/x?***)"),
        ("https://h/x?token=p: no", "https://h/x?***: no"),
        ("'https://u:p@h/a' and 'https://u:p@h/b'", "'https://h/a' and 'https://h/b'"),
        ("https://host:8080/@me/x", "https://host:8080/@me/x"),
        ("https://[::1]/a@b", "https://[::1]/a@b"),
        ("/home/a@b: no such file?", "/home/a@b: no such file?"),
    ],
)
def test_no_more_than_the_secret_is_taken_out(text, shown):
    assert without_secrets(text) == shown


def test_a_library_s_reason_is_stripped_too(monkeypatch):
    from halfling.tasks.tables import read_rows
    from halfling.tasks.task import Task

    def refuse(*_, **__):
        raise ConnectionError(
            f"Max retries: https://user:{SECRET}@cdn.example/f?X-Amz-Signature={SECRET}&e=1 (timed out)"
        )

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(HalflingError, match=r"https://cdn.example/f\?\*\*\* .timed out") as error:
        read_rows("hub:facebook/xnli:ru:validation", Task())
    assert SECRET not in str(error.value)


def test_a_name_that_is_not_known_ends_in_time(tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    refused("http://nowhere.example/cc-100", tmp_path, "name resolution.*try again later")

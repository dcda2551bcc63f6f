"""The teacher and its tokenizer from the hub, which a small server here plays."""

import hashlib
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from transformers import XLMRobertaForMaskedLM

COMMIT = "c" * 40
NAME = "FacebookAI/xlm-roberta-large"

CHILD = """
import json, sys, time, urllib.request
from pathlib import Path
from halfling.errors import HalflingError
from halfling.models.load import fetched, load_tokenizer
from halfling.training.pretrain import TeacherSettings, build_teacher
from halfling.tokens.tokenizer import TokenizerSettings, build_tokenizer

out, endpoint = Path(sys.argv[1]), sys.argv[2]

def attempt(what, source):
    folder = out / f"{what}-{source.replace('/', '-')}"
    folder.mkdir(exist_ok=True)
    try:
        if what == "folder":
            assert (fetched(source) / "config.json").is_file()
        elif what == "tokenizer":
            build_tokenizer(settings=TokenizerSettings(source=source), corpus=out, out=folder)
        else:
            settings = TeacherSettings(source=source, epochs=0)
            tokenizer = out / "tokenizer-FacebookAI-xlm-roberta-large"
            build_teacher(settings=settings, packed=out, tokenizer=tokenizer, out=folder)
        said = ""
    except HalflingError as error:
        said = str(error)
    print(json.dumps([what, source, said]))

for source in ("FacebookAI/xlm-roberta-large", "FacebookAI/absent"):
    attempt("tokenizer", source)
    attempt("teacher", source)
    attempt("folder", source)
urllib.request.urlopen(endpoint + "/stop").read()
time.sleep = lambda seconds: None  # between the client's tries
attempt("tokenizer", "FacebookAI/unreachable")
attempt("teacher", "FacebookAI/unreachable")
attempt("folder", "FacebookAI/unreachable")
"""


class Hub(BaseHTTPRequestHandler):
    """Answers for one repository as huggingface.co does, and 404 with its error code for any other."""

    folder: Path

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/stop":
            self.answer(200, b"")
            # A server that does not listen refuses connections, as a dead one does.
            self.server.socket.close()
            Thread(target=self.server.shutdown).start()
        elif path.startswith(f"/{NAME}/resolve/"):
            file = self.folder / path.split("/", 5)[5]
            if file.is_file():
                content = file.read_bytes()
                self.answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"')
            else:
                self.answer(404, b"", **{"X-Error-Code": "EntryNotFound"})
        elif path.startswith(f"/api/models/{NAME}/tree/"):
            self.json([{"type": "file", "path": file.name, "size": 0, "oid": ""} for file in self.folder.iterdir()])
        elif path.startswith(f"/api/models/{NAME}"):
            siblings = [{"rfilename": file.name} for file in self.folder.iterdir()]
            self.json({"id": NAME, "modelId": NAME, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False})
        else:
            self.answer(404, b"", **{"X-Error-Code": "RepoNotFound"})

    def json(self, value):
        self.answer(200, json.dumps(value).encode())

    def answer(self, status, content, **headers):
        self.send_response(status)
        length = {"Content-Length": str(len(content)), "X-Repo-Commit": COMMIT}
        for name, value in (length | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def hub(tmp_path, write_masked_lm):
    Hub.folder = write_masked_lm(tmp_path / "large")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_teacher_and_tokenizer_come_from_the_hub_and_what_does_not_come_is_one_line(hub, tmp_path):
    removed = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN")
    environment = {
        name: value for name, value in os.environ.items() if name not in removed and "proxy" not in name.lower()
    }
    environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    (tmp_path / "out").mkdir()
    found = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "out"), hub],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    said = {(what, source): text for what, source, text in map(json.loads, found.stdout.splitlines())}
    assert said.pop(("tokenizer", NAME)) == ""
    assert said.pop(("teacher", NAME)) == ""
    assert said.pop(("folder", NAME)) == ""
    teacher = tmp_path / "out" / "teacher-FacebookAI-xlm-roberta-large"
    assert XLMRobertaForMaskedLM.from_pretrained(teacher).config.vocab_size == 42
    assert len(said) == 6
    for (_, source), text in said.items():
        assert source in text
        assert "loaded" in text
        assert "\n" not in text

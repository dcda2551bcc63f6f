"""Tiny exported models, and the service that answers with them, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

SOURCES = Path(__file__).parents[2] / "src"


@dataclass
class Service:
    """A running service."""

    process: subprocess.Popen[str]
    address: str
    lines: list[dict[str, Any]] = field(default_factory=list)

    def post(self, path: str, body: Any, **more: Any) -> httpx2.Response:
        return httpx2.post(self.address + path, json=body, timeout=30, **more)

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.address + path, timeout=30)

    def stop(self) -> int:
        """Ask it to stop and return its status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def running(*words: object) -> Iterator[Service]:
    """Start `halfling serve` with some words, at a port that is free."""
    argv = [sys.executable, "-m", "halfling", "serve", *map(str, words), "--port", "0", "--threads", "1"]
    place = {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=place)
    service = Service(process, "")
    reader = threading.Thread(target=lambda: service.lines.extend(map(json.loads, process.stderr)), daemon=True)
    try:
        first = process.stderr.readline()
        reader.start()
        assert '"listening"' in first, first
        service.address = json.loads(first)["address"]
        for _ in range(300):
            try:
                httpx2.get(service.address + "/health", timeout=5)
                break
            except httpx2.TransportError:
                threading.Event().wait(0.02)
        yield service
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()


_MADE: dict[str, dict[str, Path]] = {"folders": {}, "sets": {}}


def exported(model: Path, out: Path, **calibration: Any) -> Path:
    """Export a model with what calibration found; return `out`."""
    from halfling.exits.calibration import Calibration
    from halfling.export.write import ExportSettings, export

    (policy := out.with_name(f"policy-{out.name}")).mkdir()
    Calibration(task="any", metric="accuracy", **calibration).write(policy / "exit_policy.json")
    out.mkdir()
    export(settings=ExportSettings(max_int8_drop=None), model=model, out=out, policy=policy)
    return out


@pytest.fixture
def folders(
    write_tagger: Callable[..., Path],
    write_classifier: Callable[..., Path],
    tiny_tasks: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A tagger and a classifier of pairs with exits, and a classifier of five labels, exported once."""
    if made := _MADE["folders"]:
        return made
    from halfling.exits.calibration import TradeOff
    from halfling.exits.policy import ExitPolicy

    place = tmp_path_factory.mktemp("served")
    models = {
        "names": (write_tagger(place / "tagger"), (1, 2)),
        "nli": (write_classifier(place / "pairs", tiny_tasks["pairs"], [1, 2]), (1, 2, 3)),
        "intents": (write_classifier(place / "five", tiny_tasks["intents"], [1, 2]), (1, 2, 3)),
    }
    for name, (model, layers) in models.items():
        curve = [
            TradeOff(
                layers=layers,
                thresholds=(threshold,) * (len(layers) - 1),
                quality=0.9 - number / 10,
                flops_share=share,
                mean_exit_layer=layers[-1] - number / 2,
            )
            for number, (threshold, share) in enumerate(((0.0, 1.0), (0.7, 0.8), (1.0, 0.5)))
        ]
        policy = ExitPolicy.uniform(layers, 0.7)
        made[name] = exported(model, place / name, policy=policy, max_drop=1.0, curve=tuple(curve))
    return made


@pytest.fixture
def with_sets(
    write_tagger: Callable[..., Path],
    write_classifier: Callable[..., Path],
    tiny_tasks: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A tagger and a classifier with thresholds of their own for Swahili (from text) and English, exported once.

    By default nobody exits before layer 2; in Swahili everybody exits after layer 1, which promised 3 points.
    """
    if made := _MADE["sets"]:
        return made
    from halfling.exits.calibration import OfLanguage, TradeOff
    from halfling.exits.policy import ExitPolicy

    place = tmp_path_factory.mktemp("sets")
    models = {
        "tags": (write_tagger(place / "tagger"), 2),
        "moods": (write_classifier(place / "classifier", tiny_tasks["intents"], [1, 2]), 3),
    }
    for name, (model, last) in models.items():
        found = {
            code: OfLanguage(
                policy=ExitPolicy(layers=(1, last), thresholds=(threshold,)),
                from_labels=code == "en",
                point=TradeOff(
                    layers=(1, last),
                    thresholds=(threshold,),
                    quality=0.98,
                    drop=2.0,
                    drop_bound=3.0,
                    flops_share=0.4,
                    mean_exit_layer=1.1,
                ),
                num_texts=900,
                confidence=0.95,
            )
            for code, threshold in (("en", 0.7), ("sw", 1.0))
        }
        plain = TradeOff(layers=(last,), thresholds=(), quality=0.99, flops_share=1.0, mean_exit_layer=last)
        made[name] = exported(
            model,
            place / name,
            policy=ExitPolicy.uniform((2, last) if last > 2 else (last,), 0.7),
            languages=found,
            max_disagreement=5.0,
            curve=(plain, found["en"].point),
        )
    return made


_STARTED: list[Any] = []


@pytest.fixture(scope="session", autouse=True)
def _stopped_at_the_end() -> Iterator[None]:
    yield
    for _, started in _STARTED:
        started.__exit__(None, None, None)


@pytest.fixture
def service(folders: dict[str, Path]) -> Service:
    """The service with all three models, started once; tests leave it as they find it."""
    if not _STARTED:
        started = running(*folders.values())
        _STARTED.append((started.__enter__(), started))
    return _STARTED[0][0]


@pytest.fixture
def start(folders: dict[str, Path]) -> Iterator[Callable[..., Service]]:
    """A function that starts another service, with settings, for one test."""
    started: list[Any] = []

    def begin(*words: object) -> Service:
        started.append(running(*(words if "=" in str(words[:1]) else (*folders.values(), *words))))
        return started[-1].__enter__()

    yield begin
    for one in started:
        one.__exit__(None, None, None)


@pytest.fixture
def alone(folders: dict[str, Path]) -> Callable[[str], Any]:
    """A function that returns the engine of a model, in this process."""
    from halfling.engine import AdaptiveEngine

    return lambda name: AdaptiveEngine.from_pretrained(folders[name], threads=1)

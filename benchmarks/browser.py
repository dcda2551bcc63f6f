"""An exported model in Chromium beside the native engine: ids, answers, bytes, and milliseconds a sentence.

    halfling export MODEL EXPORTED --backends web
    python benchmarks/browser.py EXPORTED                     # every dev sentence's ids, 1,000 answers a language
    python benchmarks/browser.py EXPORTED --times 500         # and how long an answer takes, on an idle machine

Sentences are those of the task's dev splits, in all its languages. Needs playwright and a Chromium of the system.

The engine is asked twice: as it computes here, and as plain C, which rounds as WebAssembly does. Timing takes turns,
sentence by sentence: with exits, without, and the engine with one thread, each on a sentence alone.
"""

import argparse
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np

from halfling.engine import AdaptiveEngine
from halfling.engine.backends.native import NativeLoop
from halfling.engine.prediction import Prediction
from halfling.export.web import WEB
from halfling.tasks.examples import TaggedExample, dev_examples
from halfling.tasks.task import read_task

_AT_ONCE = 200

_IDS = "texts => model.pieces(texts)"
_ANSWERS = """([sequences, texts]) => [
  model.answer(sequences, model.about.policy).map(one => ({...one, logits: one.logits.map(row => [...row])})),
  texts.map(text => model.predict(text))]"""
_TIMES = """texts => texts.map(text => [true, false].map(exits => {
  const begun = performance.now();
  model.predict(text, {exits});
  return performance.now() - begun;
}))"""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as static hosts do; yields the address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def page_of(folder: Path) -> Iterator[Any]:
    """Open a folder for browsers in Chromium; yields the page, which knows its `model`."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with served(folder) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)
        ms = page.evaluate(
            """async () => {
              const begun = performance.now(), { load } = await import("./halfling.js");
              globalThis.model = await load("./");
              return performance.now() - begun;
            }"""
        )
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{size:,} bytes; loaded in {ms:.0f} ms by Chromium {browser.version}")
        yield page
        browser.close()


def texts_of(exported: Path) -> dict[str, list[Any]]:
    """Return the dev inputs of each language as the engine takes them: words, texts or pairs."""
    task = read_task(exported)
    if task is None:
        raise SystemExit(f"{exported}: no task travels with it: export it with --task or --dev")

    def read(one: Any) -> Any:
        if isinstance(one, TaggedExample):
            return list(one.words)
        return one.text if one.text_pair is None else [one.text, one.text_pair]

    return {code: [*map(read, some)] for code, some in dev_examples(task, task.languages).items()}


def as_characters(text: Any, units: int) -> int:
    """Return how many characters so many UTF-16 units of a text are."""
    return len(text.encode("utf-16-le")[: 2 * units].decode("utf-16-le")) if isinstance(text, str) else units


def same(text: Any, here: Prediction, there: dict[str, Any]) -> bool:
    """Return whether the browser's answer is the engine's: label or tags and spans, and the layer."""
    if here.exit_layer != there["exit_layer"]:
        return False
    if here.label is not None:
        return bool(here.label == there["label"])
    spans = [
        (one["label"], as_characters(text, one["start"]), as_characters(text, one["end"]), one["text"])
        for one in there["spans"]
    ]
    found = [(one.label, one.start, one.end, one.text) for one in here.spans or ()]
    return spans == found and [*(here.tags or ())] == there["tags"]


def compare_ids(page: Any, engine: AdaptiveEngine, texts: list[Any]) -> tuple[int, int]:
    """Return how many texts were cut, and how many of them otherwise: whole, and word by word."""
    whole = [" ".join(text) if isinstance(text, list) else text for text in texts]
    different = 0
    for start in range(0, len(texts), _AT_ONCE):
        some = whole[start : start + _AT_ONCE]
        some += [part for text in texts[start : start + _AT_ONCE] if isinstance(text, list) for part in text]
        different += sum(one != two for one, two in zip(engine.pieces(some), page.evaluate(_IDS, some), strict=True))
    return len(texts), different


def compare_answers(page: Any, engines: list[AdaptiveEngine], texts: list[Any]) -> list[tuple[int, float]]:
    """Return for each engine how many answers differ, and the largest difference of logits at the same exit."""
    found = [(0, 0.0)] * len(engines)
    for start in range(0, len(texts), _AT_ONCE):
        some = texts[start : start + _AT_ONCE]
        questions = engines[0].prepare(
            [tuple(text) if engines[0].exported.kind == "sequence" else text for text in some]
        )
        asked = [part for one in questions for part in one.sequences]
        sequences = [{"ids": one.ids.tolist(), "picked": one.picked.tolist()} for one in asked]
        answers, predictions = page.evaluate(_ANSWERS, [sequences, some])
        for number, engine in enumerate(engines):
            different, largest = found[number]
            own = engine.answer(asked)
            for here, there in zip(own, answers, strict=True):
                if here.exit_layer == there["exit_layer"] and len(here.logits):
                    largest = max(largest, float(np.abs(here.logits - np.array(there["logits"])).max()))
            read = zip(questions, engine.read(questions, own), predictions, strict=True)
            different += sum(not same(question.text, here, there) for question, here, there in read)
            found[number] = different, largest
    return found


def measure_times(page: Any, engine: AdaptiveEngine, texts: list[Any], rounds: int = 3) -> None:
    """Print milliseconds a sentence."""
    page.evaluate(_TIMES, (texts * 3)[:300])  # until the browser's compiler is done
    seen: dict[str, list[float]] = {"with exits": [], "without exits": [], "engine, one thread": []}
    for _ in range(rounds):
        for text in texts:
            ((early, late),) = page.evaluate(_TIMES, [text])
            begun = time.perf_counter()
            engine.predict([text])
            seen["engine, one thread"].append(1e3 * (time.perf_counter() - begun))
            seen["with exits"].append(early)
            seen["without exits"].append(late)
    for name, ms in seen.items():
        low, middle, high = quantiles(ms, n=4)
        print(f"{name}: mean {sum(ms) / len(ms):.2f} ms, median {middle:.2f}, quartiles {low:.2f} to {high:.2f}")
    print(f"time_share {sum(seen['with exits']) / sum(seen['without exits']):.2f}")


def main() -> None:
    """Compare, and measure where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exported", type=Path)
    parser.add_argument("--languages", help="of the task's: sw,en")
    parser.add_argument("--most", type=int, help="sentences of each language whose ids are compared; all")
    parser.add_argument("--answers", type=int, default=1000, help="sentences of each language whose answers are")
    parser.add_argument("--times", type=int, default=0, help="sentences of each language that are timed")
    given = parser.parse_args()
    texts = texts_of(given.exported)
    wanted = given.languages.split(",") if given.languages else [*texts]
    here, plain = (AdaptiveEngine.from_pretrained(given.exported, "native", threads=1) for _ in range(2))
    plain.loop = NativeLoop(given.exported, plain.exported, 1, variant="plain")
    with page_of(given.exported / WEB) as page:
        for code in wanted:
            some = texts[code][: given.most]
            cut, otherwise = compare_ids(page, here, some)
            line = f"{code}: ids of {cut} sentences, {otherwise} different"
            if answered := some[: given.answers]:
                (one, off), (two, plain_off) = compare_answers(page, [here, plain], answered)
                line += f"; answers to {len(answered)}: {one} differ from {here.loop.variant} (logits by {off:.3g}), "
                line += f"{two} from plain C (by {plain_off:.3g})"
            print(line, flush=True)
        for code in wanted if given.times else ():
            print(f"{code}, milliseconds a sentence:")
            measure_times(page, here, texts[code][: given.times])


if __name__ == "__main__":
    main()

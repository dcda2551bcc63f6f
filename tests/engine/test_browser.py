"""The folder for browsers in a real Chromium, where the system has one: its answers are those of the engine."""

import dataclasses
import json
import shutil
import subprocess
import threading
import unicodedata
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from halfling.engine import AdaptiveEngine
from halfling.engine.backends.native import NativeLoop
from halfling.engine.text import NATIVE_FILE, split_words
from halfling.sample.language import LANGUAGES, read_language
from halfling.tokens.native import NativePieces

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this system"),
]
ODD = [
    "", " ", "\x1cAnna\x85lives\u3000in\ufeffRome\x1f", "«Анна», (живёт)…", "a.b. ... !?",
    "😀 Anna𐄀 👨\u200d👩\u200d👧 in 🇰🇪, Rome", "ﬁne Ⅳ ½ ﷺ ｆｕｌｌ", "क़लम लड़के", "e\u0323\u0301 \u0301a",
    "<s> </s> <mask>", "\0", "x" * 500, "Anna lives in Rome. " * 20,
]  # fmt: skip
LOAD = """async () => {
  globalThis.own = await import('./halfling.js');
  globalThis.model = await own.load('./');
}"""
ENTITIES_ARE_SLICES = """texts => texts.every(
  text => model.predict(text).spans.every(one => text.slice(one.start, one.end) === one.text))"""
BYTES_AFTER = """times => {
  for (let n = 0; n < times; n++) model.predict('Anna lives in Rome');
  return model.library.memory.buffer.byteLength;
}"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def host():
    """A function that serves a folder as static hosts do, and returns the address."""
    servers = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    def serve(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def visit(browser, host):
    """A function that opens the page of a folder. In the end nothing bad was said and nobody else was asked."""
    wrong, asked = [], []

    def opened(folder, **look):
        address = host(folder)
        page = browser.new_page(**look)
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfinished", lambda request: asked.append((address, request.url)))
        page.on("requestfailed", lambda request: wrong.append(request.url))
        page.goto(address)
        return page

    yield opened
    assert wrong == []
    assert len(asked) > 5
    assert [url for address, url in asked if not url.startswith((address, "data:"))] == []


@pytest.fixture(scope="module")
def folder(write_export):
    """A function that exports a model once for the same wishes."""
    made = {}

    def make(kind, threshold=0.75, **more):
        wish = kind, threshold, *more.items()
        if wish not in made:
            made[wish] = write_export(kind, threshold, backends=("web",), precision="int8", **more)
        return made[wish]

    return make


@pytest.fixture(scope="module")
def loaded(visit, folder):
    """A function that returns the page of a folder, with its model, and the engine as plain C, which rounds alike."""

    def make(*wish, **more):
        place = folder(*wish, **more)
        page = visit(place / "web")
        page.evaluate(LOAD)
        engine = AdaptiveEngine.from_pretrained(place, "native", threads=1)
        engine.loop = NativeLoop(place, engine.exported, 1, variant="plain")
        return page, engine

    return make


def in_units(text, place):
    return len(text[:place].encode("utf-16-le")) // 2 if isinstance(text, str) else place


def as_said(answer, text):
    """An answer of the engine in the browser's form."""
    said = {"exit_layer": answer.exit_layer, "uncertainty": answer.uncertainty}
    if answer.tags is None:
        return said | {name: getattr(answer, name) for name in ("label", "scores", "truncated")}
    spans = [
        dataclasses.asdict(one) | {"start": in_units(text, one.start), "end": in_units(text, one.end)}
        for one in answer.spans
    ]
    return said | {"tags": [*answer.tags], "spans": spans}


def close(one, two):
    """Whether two answers are equal, scores to a millionth, as softmax has 64 bits there and 32 here."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(close(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(close, one, two))
    return one == (pytest.approx(two, abs=1e-6) if isinstance(two, float) else two)


def test_ids_are_the_engines_in_six_languages(loaded, folder):
    page, _ = loaded("token")
    texts = [text for code in LANGUAGES for text in (*read_language(code).plain, *read_language(code).ner)]
    texts += [unicodedata.normalize("NFD", text) for text in texts] + ODD
    ids = NativePieces(folder("token") / NATIVE_FILE)(texts)
    assert sum(map(len, ids)) > 10_000
    assert page.evaluate("texts => model.pieces(texts)", texts) == ids


def test_words_are_cut_where_python_cuts_them(loaded):
    page, _ = loaded("token")
    texts = [text for code in LANGUAGES for text in read_language(code).plain] + ODD
    found = page.evaluate("texts => texts.map(own.splitWords)", texts)
    assert found == [[[in_units(text, place) for place in word] for word in split_words(text)] for text in texts]
    assert found[len(texts) - len(ODD) + 5][1] == [3, 7]  # what follows 😀, of two units


POLICIES = [
    {},
    {"criterion": "max_probability", "token_pooling": "max"},
    {"criterion": "margin"},
    {"criterion": "patience", "patience": 1},
    {"granularity": "token"},
]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_taggers_answers_are_the_engines(policy, loaded, texts):
    page, engine = loaded("token", **policy)
    given = [*texts["token"], *(word for words in texts["token"] for word in words), *ODD]
    given += [" ".join(words) for words in texts["token"]]
    answers = engine.predict(given)
    assert len({one.exit_layer for one in answers}) > 2
    assert any(one.spans for one in answers)
    found = page.evaluate("texts => texts.map(text => model.predict(text))", given)
    for text, one, two in zip(given, found, answers, strict=True):
        assert close(one, as_said(two, text)), text
    # An entity is what stands between its offsets.
    assert page.evaluate(ENTITIES_ARE_SLICES, [text for text in given if isinstance(text, str)])


@pytest.mark.parametrize("policy", POLICIES[:4])
def test_a_classifiers_answers_are_the_engines(policy, loaded, texts):
    page, engine = loaded("sequence", **policy)
    given = [*texts["sequence"], *(one for one, _ in texts["sequence"]), *ODD, ("x y " * 30, "z"), ("z", "x y " * 30)]
    given += [("x y " * 30, "x y z " * 30), ("x y z " * 30, "x y " * 12)]
    answers = engine.predict(given)
    assert len({one.exit_layer for one in answers}) > 2
    assert {one.truncated for one in answers} == {False, True}
    found = page.evaluate("texts => texts.map(text => model.predict(text))", [*map(_as_json, given)])
    for text, one, two in zip(given, found, answers, strict=True):
        assert close(one, as_said(two, text)), text


def _as_json(text):
    return [*text] if isinstance(text, tuple) else text


def test_logits_are_those_of_plain_c_bit_for_bit(loaded, texts):
    page, engine = loaded("token")
    asked = [part for one in engine.prepare(texts["token"]) for part in one.sequences]
    sequences = [{"ids": one.ids.tolist(), "picked": one.picked.tolist()} for one in asked]
    found = page.evaluate(
        "all => model.answer(all, model.about.policy).map(one => one.logits.map(row => [...row]))", sequences
    )
    assert found == [one.logits.tolist() for one in engine.answer(asked)]


def test_without_exits_everybody_goes_to_the_end(loaded):
    page, _ = loaded("token")
    layers = (
        "exits => ['Anna lives', 'in Rome', 'yes', 'no', 'a b c'].map(text => model.predict(text, {exits}).exit_layer)"
    )
    assert {*page.evaluate(layers, False)} == {3}
    assert min(page.evaluate(layers, True)) < 3


def test_a_languages_own_thresholds_hold_where_there_are_some(loaded):
    page, _ = loaded("token", 0.0)
    assert page.evaluate("model.predict('Anna lives').exit_layer") == 3
    page.evaluate("model.about.policies = {sw: {...model.about.policy, layers: [1, 3], thresholds: [1]}}")
    asked = "code => model.predict('Anna lives', {language: code}).exit_layer"
    assert [page.evaluate(asked, code) for code in ("sw", "SW_ke", "sw-Arab", "constructor")] == [1, 1, 3, 3]


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("1", "token", "TypeError: expected a text or a list of words"),
        ("['a', 'b', 'c']", "sequence", "TypeError: expected a text or a pair of texts"),
        ("'a\\ud83d'", "token", "TypeError: the text holds half a surrogate pair"),
    ],
)
def test_what_is_no_text_is_refused(text, kind, said, loaded):
    page, _ = loaded(kind)
    assert (
        page.evaluate(f"(() => {{ try {{ model.predict({text}) }} catch (error) {{ return String(error) }} }})()")
        == said
    )


def test_the_librarys_memory_does_not_grow_with_answers(loaded):
    page, _ = loaded("token")
    assert page.evaluate(BYTES_AFTER, 1) == page.evaluate(BYTES_AFTER, 20_000)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        # Not compressed: so a host may have sent it.
        ("native.weights.gz", b"HALFLINGfoot", "native.weights: no weights of halfling: export the model again"),
        ("native.tokenizer.gz", b"", "native.tokenizer: no tokenizer of halfling: export the model again"),
        ("engine.json", b'{"format": 2}', "engine.json: of another version of halfling: export the model again"),
        ("halfling.wasm", None, "halfling.wasm: 404 File not found"),
    ],
)
def test_a_damaged_folder_is_refused_with_a_reason(name, content, said, browser, host, folder, tmp_path):
    place = shutil.copytree(folder("token") / "web", tmp_path / "web")
    (place / name).unlink() if content is None else (place / name).write_bytes(content)
    page = browser.new_page()
    page.goto(host(place))
    page.wait_for_selector("#status.bad")
    assert page.get_by_role("status").inner_text().removeprefix("No answer: ").endswith(said)


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node on this system")
def test_node_answers_too(host, loaded, folder):
    _, engine = loaded("token")
    place = folder("token") / "web"
    script = f"""import {{ load }} from {json.dumps((place / "halfling.js").as_uri())};
    console.log(JSON.stringify((await load({json.dumps(host(place))})).predict("Anna lives in Rome")))"""
    done = subprocess.run(["node", "--input-type=module", "--eval", script], capture_output=True, text=True, check=True)
    assert close(json.loads(done.stdout), as_said(engine.predict(["Anna lives in Rome"])[0], "Anna lives in Rome"))


@pytest.mark.parametrize("look", [{"viewport": {"width": 360, "height": 700}, "color_scheme": "dark"}, {}])
def test_the_page_colours_entities(look, visit, loaded, folder):
    _, engine = loaded("token")
    text = "😀 Anna lives in Rome <b>yes</b>"
    (answer,) = engine.predict([text])
    assert answer.spans
    page = visit(folder("token") / "web", **look)
    page.locator("#status", has_text="The model is here").wait_for()
    page.get_by_label("Text", exact=True).fill(text)
    page.locator("#status", has_text=" ms, one text").wait_for()
    shown = page.eval_on_selector_all("mark", "all => all.map(one => [one.firstChild.data, one.lastChild.textContent])")
    assert shown == [[span.text, span.label] for span in answer.spans]
    told = page.locator("li .soft").inner_text()
    assert told == f"exited after layer {answer.exit_layer} of 3; uncertainty {answer.uncertainty:.2f}"
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_the_page_shows_a_pairs_labels(visit, loaded, folder):
    _, engine = loaded("sequence")
    (answer,) = engine.predict([("Anna lives", "in Rome")])
    page = visit(folder("sequence") / "web")
    page.locator("#status", has_text="The model is here").wait_for()
    page.get_by_label("Text", exact=True).fill("Anna lives")
    page.get_by_label("Second text").fill("in Rome")
    page.locator("#status", has_text=" ms, one text").wait_for()
    wanted = sorted(answer.scores, key=lambda one: -answer.scores[one])
    assert page.locator(".bar span").all_inner_texts() == wanted

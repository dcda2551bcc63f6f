"""The page in a real Chromium, where the system has one: what it shows, and that nothing overflows or fails."""

import shutil
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this system"),
]


@pytest.fixture
def browser():
    """A browser of the system, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """A function that opens a service's page. At the end its console said nothing bad, and nobody else was asked."""
    wrong, hosts, own = [], set(), {""}

    def open_page(address, width=1280, scheme="light"):
        own.add(urlsplit(address).netloc)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.goto(address)
        page.locator("#facts", has_text="layers").wait_for()
        return page

    yield open_page
    assert wrong == []
    assert hosts <= own


@pytest.fixture
def opened(visit, service):
    """The same of the service that tests share."""
    return lambda *how: visit(service.address, *how)


def answered(page, text=" ms, there and back"):
    # Not by a function: the page's policy forbids to evaluate one.
    page.locator("#status", has_text=text).wait_for()


def ask(page, text):
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Answer").click()
    answered(page)


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_colours_follow_the_scheme(width, scheme, opened):
    page = opened(width, scheme)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 23, 26)"
    assert dark == (scheme == "dark")
    ask(page, "Anna lives in Rome. " * 3 + "R" * 400)
    assert page.locator("li.answer").count() == 4
    assert overflow(page) <= 0
    page.get_by_label("Model").select_option("nli")
    page.get_by_role("button", name="English").click()
    page.wait_for_selector(".bar")
    assert overflow(page) <= 0


def test_entities_stand_where_the_engine_says(opened, alone):
    text = "😀 Anna lives in Rome"
    page = opened()
    ask(page, text)
    (answer,) = alone("names").predict([text])
    assert answer.spans
    shown = page.eval_on_selector_all("mark", "all => all.map(one => [one.firstChild.data, one.lastChild.textContent])")
    assert shown == [[span.text, span.label] for span in answer.spans]
    told = page.locator(".where").inner_text()
    assert f"exited after layer {answer.exit_layer} of 2" in told
    assert f"uncertainty {answer.uncertainty:.2f}" in told


def test_each_sentence_of_each_example_has_an_answer_in_its_direction(opened):
    page = opened()
    for name, code in (
        ("English", "en"),
        ("Русский", "ru"),
        ("हिन्दी", "hi"),
        ("Türkçe", "tr"),
        ("Kiswahili", "sw"),
        ("اردو", "ur"),
    ):
        page.get_by_role("button", name=name).click()
        page.locator(f"#text[lang={code}]").wait_for()
        answered(page, "2 sentences in ")
        wanted = "rtl" if code == "ur" else "ltr"
        directions = page.eval_on_selector_all(".text", "all => all.map(one => getComputedStyle(one).direction)")
        assert directions == [wanted] * 2
        assert page.eval_on_selector("#text", "one => getComputedStyle(one).direction") == wanted


def test_a_pair_has_bars_for_its_labels(opened, alone):
    page = opened()
    page.get_by_label("Model").select_option("nli")
    page.get_by_label("Text", exact=True).fill("Anna lives")
    page.get_by_label("Second text").fill("in Rome")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".bar")
    (answer,) = alone("nli").predict([("Anna lives", "in Rome")])
    assert page.locator(".bar span").all_inner_texts() == sorted(answer.scores, key=lambda one: -answer.scores[one])


def test_the_slider_asks_for_less_arithmetic(opened):
    page = opened()
    page.get_by_label("Model").select_option("intents")
    slider = page.get_by_label("Arithmetic")
    ask(page, "Anna lives in Rome.")
    seen = set()
    for key, share in (("End", "100 %"), ("Home", "50 %")):
        slider.press(key)
        assert share in page.locator("#measured").inner_text()
        assert share in slider.get_attribute("aria-valuetext")
        answered(page)
        page.wait_for_timeout(300)
        seen.add(page.locator(".where").inner_text().split("\n")[0])
    assert seen == {"exited after layer 3 of 3", "exited after layer 1 of 3"}


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(opened):
    page = opened()
    page.get_by_label("Model").focus()
    reached = []
    for _ in range(12):
        reached.append(
            page.evaluate("(one => (one.labels && one.labels[0] || one).textContent.trim())(document.activeElement)")
        )
        page.keyboard.press("Tab")
    assert reached[:2] == ["Model", "Text"]
    assert {"English", "اردو", "Arithmetic", "Answer"} <= {*reached}
    assert page.get_by_role("status").count() == 1
    assert page.get_by_role("heading", name="Answers").count() == 1


def test_what_fails_is_said_and_nothing_is_taken_from_elsewhere(browser, service):
    page = browser.new_page()
    said = page.goto(service.address)
    assert "default-src 'none'" in said.headers["content-security-policy"]
    page.route("**/predict_tokens", lambda route: route.fulfill(status=429, json={"error": "names is overloaded"}))
    page.locator("#facts", has_text="layers").wait_for()
    page.get_by_label("Text", exact=True).fill("Anna")
    page.get_by_role("button", name="Answer").click()
    page.wait_for_selector("#status.bad")
    assert page.get_by_role("status").inner_text() == "No answer: names is overloaded"


def test_markup_in_a_text_is_text(opened):
    page = opened()
    ask(page, "<img src=x onerror=alert(1)> Anna")
    assert page.locator("li.answer img").count() == 0
    typed = page.eval_on_selector(
        ".text", "one => { for (const type of one.querySelectorAll('bdi')) type.remove(); return one.textContent; }"
    )
    assert typed == "<img src=x onerror=alert(1)> Anna"


@pytest.fixture
def with_languages(start, with_sets):
    """The service of models that have sets by language."""
    return start(*(f"{name}={folder}" for name, folder in with_sets.items()))


@pytest.mark.parametrize("width", [360, 1280])
def test_a_language_is_chosen_and_each_answer_says_whose_thresholds_held(width, visit, with_languages):
    page = visit(with_languages.address, width)
    page.get_by_label("Model").select_option("moods")
    chosen = page.get_by_label("Thresholds")
    assert chosen.evaluate("one => [...one.options].map(each => each.text)") == [
        "of no language: the most cautious",
        "of English",
        "of Swahili",
        "by arithmetic",
    ]
    assert chosen.evaluate("one => one.options[one.selectedIndex].value") == ""
    ask(page, "Anna lives in Rome.")
    assert "the most cautious thresholds" in page.locator(".where").inner_text()
    assert "exited after layer 1 of 3" not in page.locator(".where").inner_text()
    chosen.focus()
    page.keyboard.press("End")  # by the keyboard alone: the last is by arithmetic, before it Swahili
    page.keyboard.press("ArrowUp")
    page.locator(".where", has_text="thresholds of Swahili").wait_for()
    assert "exited after layer 1 of 3" in page.locator(".where").inner_text()
    told = page.locator("#promised").inner_text()
    assert told == (
        "exits after layer 1 below 1.0; 40 % of the arithmetic; "
        "at most 3.0 points of answers other than at full depth, in calibration"
    )
    assert page.locator("#price").is_hidden()
    page.get_by_text("All languages", exact=True).click()
    cells = page.locator("#table tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert [[cell.replace("\u00a0", " ") for cell in row] for row in cells] == [
        ["English", "1: 0.70", "40 %", "2.00*", "3.00"],
        ["Swahili", "1: 1.0", "40 %", "2.00", "3.00"],
        ["any other", "2: 0.70", "–", "–", "–"],
    ]
    assert overflow(page) <= 0
    # An example brings its language; one without a set the default.
    page.get_by_role("button", name="English").click()
    page.locator(".where", has_text="thresholds of English").first.wait_for()
    assert "at most 3.0 points of score lost" in page.locator("#promised").inner_text()
    page.get_by_role("button", name="Türkçe").click()
    page.locator(".where", has_text="the most cautious thresholds").first.wait_for()
    assert overflow(page) <= 0


def test_by_arithmetic_the_slider_is_there_and_no_set_is_named(visit, with_languages):
    page = visit(with_languages.address)
    page.get_by_label("Model").select_option("moods")
    page.get_by_label("Thresholds").select_option("by arithmetic")
    assert page.get_by_label("Arithmetic").is_visible()
    assert page.locator("#promised").is_hidden()
    ask(page, "Anna lives in Rome.")
    assert "thresholds" not in page.locator(".where").inner_text()

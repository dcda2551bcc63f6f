"""Thresholds by language: which set holds is chosen by the request, and said in the answer."""

import pytest

from halfling.engine import AdaptiveEngine

TEXTS = ["Anna lives in Rome", "no", "maybe Anna"]


@pytest.fixture
def service(start, with_sets):
    """The service of models that have sets."""
    return start(*(f"{name}={folder}" for name, folder in with_sets.items()))


@pytest.fixture
def engine(with_sets):
    return lambda name: AdaptiveEngine.from_pretrained(with_sets[name], threads=1)


def asked(texts, place, language):
    """A body that names a language, beside its inputs or among a client's parameters; or none."""
    inputs = {"inputs": texts, "return_exits": True}
    return inputs | (
        {} if language is None else {"language": language} if place == "body" else {place: {"language": language}}
    )


def test_a_request_s_language_chooses_its_set_and_the_answer_says_whose_it_was(service, engine):
    moods, tags = engine("moods"), engine("tags")
    for language, whose in (("sw", "sw"), ("en", "en"), (None, None), ("xx", None)):
        for place in ("body", "parameters"):
            found = service.post("/predict", asked([[text] for text in TEXTS], place, language)).json()
            expected = moods.predict(TEXTS, language)
            assert [(one[0]["label"], one[0]["exit_layer"], one[0]["policy"]) for one in found] == [
                (one.label, one.exit_layer, whose) for one in expected
            ]
            found = service.post("/predict_tokens", asked(TEXTS, place, language)).json()
            expected = tags.predict(TEXTS, language)
            assert [(one["exit_layer"], one["policy"]) for one in found] == [
                (one.exit_layer, whose) for one in expected
            ]
        body = {"input": TEXTS, "return_exits": True} | ({} if language is None else {"language": language})
        found = service.post("/classify", body).json()["data"]
        assert {one[0]["policy"] for one in found} == {whose}
    # The sets do differ.
    assert {one.exit_layer for one in moods.predict(TEXTS, "sw")} == {1}
    assert 1 not in {one.exit_layer for one in moods.predict(TEXTS)}


def test_a_language_beside_a_share_and_one_that_is_no_word_are_refused(service):
    both = service.post("/predict", {"inputs": "a", "language": "sw", "flops_share": 0.5})
    assert (both.status_code, both.json()["error"]) == (
        422,
        "language and flops_share both say where to exit: send one of them",
    )
    three = {"inputs": "a", "flops_share": 0.5, "max_latency_ms": 5}
    assert service.post("/predict", three).json()["error"].startswith("flops_share and max_latency_ms both say")
    two = service.post("/predict", {"inputs": "a", "language": "sw", "parameters": {"language": "en"}})
    assert (two.status_code, two.json()["error"]) == (
        422,
        "language and parameters.language differ: say one of them",
    )
    for wrong in (5, "x" * 65, ["sw"], "AUTO", "auto ", "sw\x00", "swahili"):
        assert service.post("/predict", {"inputs": "a", "language": wrong}).status_code == 422


def test_info_and_metrics_show_each_set(service):
    found = service.get("/models/moods/info").json()["languages"]
    assert found["sw"] == {
        "name": "Swahili",
        "exit_layers": [1, 3],
        "exit_thresholds": [1.0],
        "from_labels": False,
        "flops_share": 0.4,
        "drop": 2.0,
        "drop_bound": 3.0,
        "time_share": None,
        "mean_exit_layer": 1.1,
    }
    assert found["en"]["from_labels"] is True
    metrics = service.get("/metrics").text
    for policy, layer, threshold in (("default", 2, 0.7), ("sw", 1, 1.0), ("en", 1, 0.7)):
        assert f'halfling_exit_threshold{{layer="{layer}",model="moods",policy="{policy}"}} {threshold}' in metrics


@pytest.mark.parametrize(
    ("texts", "whose"),
    [
        (["Serikali imesema kwamba watoto wote wanapaswa kwenda shule kuanzia mwaka ujao."] * 2, "sw"),
        (["The committee said that the results of the elections will be published next week."], "en"),
        (["Serikali imesema kwamba watoto wote wanapaswa kwenda shule mwaka ujao.", "The committee said so."], None),
        (["Rome 1999"], None),
    ],
)
def test_a_request_s_language_may_be_guessed_of_all_its_texts(texts, whose, service):
    body = asked([[text] for text in texts], "body", "auto") | {"truncate": True}
    found = service.post("/predict", body).json()
    assert {one[0]["policy"] for one in found} == {whose}


def test_an_empty_text_says_nothing_of_a_request_s_language(service):
    texts = ["Serikali imesema kwamba watoto wote wanapaswa kwenda shule kuanzia mwaka ujao.", ""]
    found = service.post("/predict_tokens", asked(texts, "body", "auto")).json()
    assert [one["policy"] for one in found] == ["sw", "sw"]

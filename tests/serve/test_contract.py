"""What the published contracts say: Text Embeddings Inference's, Infinity's, and transformers' form of entities."""

import re
from pathlib import Path

import pytest

from halfling.serve.refusal import STATUS, type_of

TEXTS = ["Anna lives in Rome", "no", "maybe Anna"]
FORM = {"error", "error_type"}


def test_a_text_has_all_labels_the_likeliest_first(service, alone):
    said = service.post("/models/intents/predict", {"inputs": TEXTS[0]})
    assert (said.status_code, said.headers["content-type"]) == (200, "application/json")
    found = said.json()
    (expected,) = alone("intents").predict([TEXTS[0]])
    assert {one["label"]: one["score"] for one in found} == expected.scores
    assert [{*one} for one in found] == [{"score", "label"}] * 5
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    assert sum(one["score"] for one in found) == pytest.approx(1)


def test_two_texts_are_a_pair_and_lists_of_lists_are_a_batch(service, alone):
    pair, single = ("Anna lives", "in Rome"), "maybe Anna"
    whole = service.post("/predict", {"inputs": list(pair)}).json()
    batch = service.post("/predict", {"inputs": [[single], list(pair)]}).json()
    expected = alone("nli").predict([single, pair])
    assert batch[1] == whole
    assert [[one["score"] for one in each] for each in batch] == [
        sorted(each.scores.values(), reverse=True) for each in expected
    ]
    assert service.post("/predict", {"inputs": [single]}).json() == batch[0]


def test_raw_scores_are_the_logits_at_the_exit(service, alone):
    engine = alone("intents")
    (question,) = engine.prepare(["Rome"])
    (answer,) = engine.answer(question.sequences)
    found = service.post("/models/intents/predict", {"inputs": "Rome", "raw_scores": True}).json()
    wanted = dict(zip(engine.exported.labels, answer.logits[0].tolist(), strict=True))
    assert {one["label"]: one["score"] for one in found} == wanted


def test_what_is_too_long_is_cut_only_where_that_is_asked_for(service):
    long = "Anna lives in Rome " * 20
    said = service.post("/predict", {"inputs": long})
    assert (said.status_code, said.json()["error_type"]) == (422, "Validation")
    assert "more than 40 tokens" in said.json()["error"]
    assert service.post("/predict", {"inputs": long, "truncate": False}).status_code == 422
    assert service.post("/predict", {"inputs": long, "truncate": True}).status_code == 200
    assert service.post("/predict", {"inputs": "a", "truncation_direction": "Left"}).status_code == 422


def test_more_texts_than_a_request_may_have(service):
    said = service.post("/predict", {"inputs": [["a"]] * 33})
    assert (said.status_code, said.json()["error_type"]) == (413, "Validation")
    assert service.post("/predict", {"inputs": [["a"]] * 32}).status_code == 200


@pytest.mark.parametrize("inputs", ["", "  \n", ["", "a"], [["a"], [""]]])
def test_nothing_is_said_of_no_text(inputs, service):
    said = service.post("/predict", {"inputs": inputs})
    assert (said.status_code, said.json()) == (400, {"error": "inputs cannot be empty", "error_type": "Empty"})


def test_a_tagger_is_no_classifier(service):
    for path, ask in (("/models/names/predict", "/predict_tokens"), ("/models/nli/predict_tokens", "/predict")):
        said = service.post(path, {"inputs": "Anna"})
        assert (said.status_code, said.json()["error_type"]) == (424, "Backend")
        assert f"ask {ask}" in said.json()["error"]


def test_a_model_is_named_in_the_body_or_in_the_path(service):
    by_path = service.post("/models/intents/predict", {"inputs": "Anna"}).json()
    assert service.post("/predict", {"inputs": "Anna", "model": "intents"}).json() == by_path
    assert service.post("/predict", {"inputs": "Anna"}).json() != by_path
    unknown = service.post("/predict", {"inputs": "Anna", "model": "other"})
    assert (unknown.status_code, unknown.json()["error_type"]) == (400, "Validation")
    assert "names, nli, intents" in unknown.json()["error"]
    assert service.post("/models/other/predict", {"inputs": "Anna"}).status_code == 404


def test_info_has_what_the_contract_requires(service, alone):
    found = service.get("/models/nli/info").json()
    required = {
        "model_id": "nli",
        "served_model_name": "nli",
        "model_dtype": "int8",
        "max_concurrent_requests": 512,
        "max_input_length": 40,
        "max_batch_tokens": 1024,
        "max_client_batch_size": 32,
        "auto_truncate": False,
        "tokenization_workers": 1,
    }
    assert {name: found[name] for name in required} == required
    labels = alone("nli").exported.labels
    classifier = found["model_type"]["classifier"]
    assert classifier["id2label"] == {str(number): label for number, label in enumerate(labels)}
    assert classifier["label2id"] == {label: number for number, label in enumerate(labels)}
    assert (found["exit_layers"], found["exit_thresholds"]) == ([1, 2, 3], [0.7, 0.7])
    assert service.get("/info").json()["model_id"] == "names"


def test_health_metrics_and_headers(service):
    assert service.get("/health").status_code == 200
    said = service.post("/predict", {"inputs": "Anna lives"})
    timed = {"x-compute-time", "x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time"}
    assert all(said.headers[name].isdigit() for name in timed)
    assert said.headers["x-compute-tokens"] == "4"
    before = service.get("/metrics").text
    service.post("/predict", {"inputs": [["Anna lives"], ["no"], ["Rome"]]})
    after = service.get("/metrics").text

    def exits(text):
        found = re.findall(r'halfling_exits_total\{layer="(\d)",model="nli"\} (\S+)', text)
        return {int(layer): float(number) for layer, number in found}

    assert {*exits(after)} == {1, 2, 3}
    assert sum(exits(after).values()) - sum(exits(before).values()) == 3
    assert 'halfling_exit_threshold{layer="1",model="nli",policy="default"} 0.7' in after
    assert 'halfling_queue_tokens{model="nli"} 0.0' in after
    assert re.search(r'halfling_queue_seconds_count\{model="nli"\} [1-9]', after)
    assert re.search(r'halfling_requests_total\{endpoint="/predict",status="200"\} [1-9]', after)
    assert re.search(r'halfling_request_seconds_count\{endpoint="/predict"\} [1-9]', after)


def test_the_docs_list_every_status_of_a_refusal():
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d, ]+) \| ((?:`\w+`(?:, )?)+) \|", page, flags=re.MULTILINE)
    told = {
        (int(status), kind.strip("`"))
        for all_of, kinds in rows
        for status in all_of.split(", ")
        for kind in kinds.split(", ")
    }
    own = {(status, kind) for kind, status in STATUS.items()}
    others = (404, 405, 408, 413, 500)  # of the framework, and where a refusal names its own
    assert told >= own | {(status, type_of(status)) for status in others}


def test_an_unknown_address_or_method_has_the_contract_s_form(service):
    for said, status in ((service.get("/nowhere"), 404), (service.get("/predict"), 405)):
        assert (said.status_code, {*said.json()}) == (status, FORM)


def test_infinity_s_classify(service, alone):
    said = service.post("/classify", {"input": TEXTS, "model": "intents"}).json()
    assert {*said} == {"object", "data", "model", "usage", "id", "created"}
    assert (said["object"], said["model"]) == ("classify", "intents")
    expected = alone("intents").predict(TEXTS)
    assert [each[0]["label"] for each in said["data"]] == [each.label for each in expected]
    tokens = sum(tokens for each in expected for tokens, _ in each.computed)
    assert said["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    # As in Infinity what is too long is cut, and its name for no model is the first that can answer.
    unnamed = {"input": ["Anna lives in Rome " * 20], "model": "default/not-specified", "raw_scores": True}
    assert service.post("/classify", unnamed).json()["model"] == "nli"


def test_infinity_s_errors_and_list_of_models(service):
    for body, status in (({"input": ["a"], "model": "other"}, 400), ({"input": []}, 422), ({"input": "a"}, 422)):
        said = service.post("/classify", body)
        assert (said.status_code, said.json()["error"]["code"]) == (status, status)
        assert {*said.json()["error"]} == {"message", "type", "param", "code"}
    assert [one["id"] for one in service.get("/models").json()["data"]] == ["names", "nli", "intents"]


def test_entities_are_where_they_stand_in_the_text_as_sent(service, alone):
    texts = ["😀  Anna\tlives in (Rome).", "e\u0301 Anna \u200fRome\u200e", "", "yes"]
    found = service.post("/predict_tokens", {"inputs": texts}).json()
    expected = alone("names").predict(texts)
    assert any(found)
    for text, entities, answer in zip(texts, found, expected, strict=True):
        assert [(one["entity_group"], one["start"], one["end"], one["score"]) for one in entities] == [
            (span.label, span.start, span.end, span.score) for span in answer.spans
        ]
        assert all(one["word"] == text[one["start"] : one["end"]] for one in entities)
    assert service.post("/predict_tokens", {"inputs": texts[0]}).json() == found[0]


def test_a_long_text_is_tagged_to_its_end(service):
    text = "Anna lives in Rome " * 50
    words = {"inputs": text, "parameters": {"aggregation_strategy": "none", "ignore_labels": []}}
    found = service.post("/predict_tokens", words).json()
    assert [one["word"] for one in found] == text.split()


def test_labels_to_ignore_are_left_out(service):
    text = {"inputs": "Anna lives in Rome yes no maybe"}
    found = service.post("/predict_tokens", text).json()
    some = found[0]["entity_group"]
    kept = service.post("/predict_tokens", {**text, "parameters": {"ignore_labels": [some]}}).json()
    assert kept == [one for one in found if one["entity_group"] != some]
    assert service.post("/predict_tokens", {**text, "parameters": {"stride": 4}}).status_code == 422


def test_a_request_may_ask_for_less_arithmetic(service, alone, folders):
    def exits(name, share):
        body = {"inputs": [["Anna lives in Rome"], ["no"], ["yes maybe"]], "return_exits": True, "flops_share": share}
        return [one[0]["exit_layer"] for one in service.post(f"/models/{name}/predict", body).json()]

    assert exits("intents", 1) == [3, 3, 3]
    assert exits("intents", 0.8) == [
        one.exit_layer for one in alone("intents").predict(["Anna lives in Rome", "no", "yes maybe"])
    ]
    assert exits("intents", 0.6) == [1, 1, 1]
    tokens = {"inputs": "Anna lives in Rome", "return_exits": True, "flops_share": 0.5}
    assert service.post("/predict_tokens", tokens).json()["exit_layer"] == 1
    curve = service.get("/models/intents/info").json()["curve"]
    assert [(point["flops_share"], point["quality"]) for point in curve] == [(1.0, 0.9), (0.8, 0.8), (0.5, 0.7)]
    refused = service.post("/predict", {"inputs": "a", "flops_share": 0.4})
    assert (refused.status_code, refused.json()["error"]) == (422, "flops_share: the curve of nli begins at 0.500")


def test_a_request_may_name_the_milliseconds_within_which_it_is_expected(service):
    body = {"inputs": "Anna lives in Rome", "return_exits": True}

    def asked(milliseconds):
        return service.post("/models/intents/predict", body | {"max_latency_ms": milliseconds})

    assert asked(60_000).json()[0]["exit_layer"] == 3  # time for the best policy, which has no exits
    assert asked(1e-6).json()[0]["exit_layer"] == 1  # nothing is so fast: the cheapest
    assert [asked(wrong).status_code for wrong in (0, -1, "5", 1e9)] == [422] * 4


def test_infinity_s_classify_takes_the_same_constraints(service):
    def asked(**constraint):
        return service.post(
            "/classify", {"input": ["Anna lives in Rome"], "model": "intents", "return_exits": True} | constraint
        )

    def layer(**constraint):
        return asked(**constraint).json()["data"][0][0]["exit_layer"]

    assert (layer(flops_share=1), layer(flops_share=0.6)) == (3, 1)
    assert (layer(max_latency_ms=60_000), layer(max_latency_ms=1e-6)) == (3, 1)
    for wrong, said in (
        ({"flops_share": 7}, "flops_share: Input should be less than or equal to 1"),
        ({"max_latency_ms": "x"}, "max_latency_ms: Input should be a valid number"),
        ({"flops_share": 0.5, "language": "sw"}, "language and flops_share both say where to exit: send one of them"),
    ):
        refused = asked(**wrong)
        assert (refused.status_code, refused.json()["error"]["message"]) == (422, said)


@pytest.mark.parametrize(
    ("path", "wrong", "said"),
    [
        ("/predict", {"truncate": "yes"}, "truncate: Input should be a valid boolean"),
        ("/predict", {"parameters": {"top_k": "a"}}, "parameters.top_k: Input should be a valid integer"),
        ("/predict", {"parameters": {"language": 5}}, "parameters.language: Input should be a valid string"),
        ("/predict", {"parameters": {"language": 5, "top_k": 0}}, "parameters.top_k: Input should be greater than"),
        ("/predict_tokens", {"parameters": {"ignore_labels": ["O", 4]}}, "parameters.ignore_labels: Input should be a"),
        ("/predict", {"parameters": [1]}, "parameters: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_field_is_named_wherever_it_stands(path, wrong, said, service):
    refused = service.post(path, {"inputs": "Anna"} | wrong)
    assert refused.status_code == 422
    assert refused.json()["error"].startswith(said)


def test_exits_are_said_where_they_are_asked_for(service, alone):
    texts = ["Anna lives in Rome", "no", ""]
    tagged = service.post("/predict_tokens", {"inputs": texts, "return_exits": True}).json()
    assert [(one["exit_layer"], one["uncertainty"]) for one in tagged] == [
        (one.exit_layer, one.uncertainty) for one in alone("names").predict(texts)
    ]
    batch = {"inputs": [["Anna lives in Rome"], ["no"], ["yes no", "Rome"]], "return_exits": True}
    labelled = service.post("/predict", batch).json()
    expected = alone("nli").predict(["Anna lives in Rome", "no", ("yes no", "Rome")])
    assert {one.exit_layer for one in expected} - {3}
    for labels, answer in zip(labelled, expected, strict=True):
        assert {(one["exit_layer"], one["uncertainty"]) for one in labels} == {(answer.exit_layer, answer.uncertainty)}

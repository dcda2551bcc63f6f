"""Clients as they are: huggingface_hub's, against the running service."""

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError


@pytest.fixture
def client(service, monkeypatch):
    """A function that returns a client of an address of the service."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # which forbids this machine too
    return lambda path: InferenceClient(model=service.address + path, token="none", timeout=30)


@pytest.mark.parametrize("path", ["/models/intents/predict", "/models/intents"])
def test_text_classification(path, client, alone):
    found = client(path).text_classification("Anna lives in Rome")
    (expected,) = alone("intents").predict(["Anna lives in Rome"])
    assert {one.label: one.score for one in found} == expected.scores
    assert found[0].label == expected.label
    assert len(client(path).text_classification("Anna", top_k=2)) == 2
    raw = client(path).text_classification("Anna", function_to_apply="none")
    assert sum(one.score for one in raw) != pytest.approx(1)


@pytest.mark.parametrize("path", ["/predict_tokens", "/", "/models/names"])
def test_token_classification(path, client, alone):
    text = "yes Anna lives in Rome."
    (expected,) = alone("names").predict([text])
    assert expected.spans
    for strategy in (None, "first", "simple"):
        found = client(path).token_classification(text, aggregation_strategy=strategy)
        assert [(one.entity_group, one.word, one.start, one.end) for one in found] == [
            (span.label, span.text, span.start, span.end) for span in expected.spans
        ]
    words = client(path).token_classification(text, aggregation_strategy="none", ignore_labels=[])
    assert [one.entity for one in words] == [*expected.tags]


def test_a_refusal_reaches_the_client_as_one(client):
    with pytest.raises(HfHubHTTPError) as caught:
        client("/models/names/predict").text_classification("Anna")
    assert caught.value.response.status_code == 424

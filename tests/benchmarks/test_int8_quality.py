from pathlib import Path

import pytest

from halfling.sample.write import SampleSettings, write_sample
from halfling.tasks import TASKS
from halfling.tasks.wikiann import NerExample
from halfling.tasks.xnli import NliExample


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def data(tmp_path):
    write_sample(settings=SampleSettings(lines=2, train_sentences=1), out=tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.filterwarnings("ignore")  # the libraries that export warn of themselves
def test_scores_are_those_of_the_model_in_torch(write_tagger, data, tmp_path):
    import int8_quality

    from halfling.models import XLMRobertaEarlyExitForTokenClassification
    from halfling.models.load import load_tokenizer
    from halfling.tasks.predict import predict

    model = write_tagger(tmp_path / "model")
    found = int8_quality.measure(model, data, tmp_path / "exported", None, 20, "onnx")
    assert list(found) == list(int8_quality.LANGUAGES)
    network = XLMRobertaEarlyExitForTokenClassification.from_pretrained(model).eval()
    # Few tokens: no word is cut off there, or in a second window here.
    words = ("Anna", "lives", "in", "Rome", "no", "maybe")
    examples = [NerExample(words[n:] + words[:n], (0,) * 6) for n in range(6)]
    encoded = TASKS["wikiann"].encode(examples, load_tokenizer(model), 32)
    engine = int8_quality.AdaptiveEngine.from_pretrained(tmp_path / "exported" / "float32", "onnx")
    labels = predict(network, encoded, 8).labels
    assert int8_quality.answers(engine, "wikiann", examples) == labels
    assert len({label for each in labels for label in each}) > 1
    same = int8_quality.compare("wikiann", examples, engine, engine)
    assert (same["drop"], same["bound"], same["equal"]) == (0, 0, 1)
    assert min(row["equal"] for row in found.values()) > 0.5


def test_a_drop_is_counted_in_points(monkeypatch):
    import int8_quality

    examples = [NliExample("a", "b", n % 3) for n in range(8)]
    right = [e.label for e in examples]
    said = {"float32": right, "int8": [(right[0] + 1) % 3, *right[1:]]}
    monkeypatch.setattr(int8_quality, "answers", lambda engine, *_: said[engine])
    row = int8_quality.compare("xnli", examples, "float32", "int8")
    assert (row["float32"], row["int8"], row["drop"], row["equal"]) == (100, 87.5, 12.5, 7 / 8)
    assert row["bound"] > 12.5

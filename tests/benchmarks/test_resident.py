from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_fresh_tagger_is_measured_beside_peers(tmp_path, tiny_tasks, write_classifier):
    import resident

    model = write_classifier(tmp_path / "model", tiny_tasks["names"], [1, 2])
    (scratch := tmp_path / "scratch").mkdir()
    found = resident.measure(model, None, "sw", "", peers=True, scratch=scratch)
    peaks = found["peak_bytes"]
    assert len(peaks) == 4
    assert peaks["whole"] < peaks["ONNX Runtime, dynamic int8"] < peaks["transformers, float32"]
    assert all(0 < found["own_bytes"][name] < peak for name, peak in peaks.items())
    assert 0 < found["cold_start_seconds"]["whole"] < 60
    assert "| whole, MB |" in resident.report(found)


def test_what_is_installed_counts_dependencies_once_and_no_extras():
    import resident

    found = resident.installed()
    assert {"halfling-nlp", "numpy", "pydantic", "pydantic-core"} <= {*found}
    assert not {"torch", "openvino", "onnxruntime"} & {*found}
    assert found["numpy"] > 1e7

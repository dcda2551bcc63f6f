import pytest

from halfling.corpus import ingest
from halfling.corpus.ingest import Ingest, IngestSettings

TEXTS = [f"{number} {'ж' * 30}" for number in range(40)]  # in no Latin script


@pytest.mark.parametrize(("keep", "runs"), [(True, 4), (False, 1)])
def test_what_is_rejected_and_kept_is_written_before_it_fills_memory(tmp_path, monkeypatch, keep, runs):
    monkeypatch.setattr(ingest, "RUN_BYTES", 700)
    monkeypatch.setattr(ingest, "_BATCH_CHARACTERS", 100)
    language = Ingest(tmp_path, "en", IngestSettings(keep_rejected=keep))
    language.read(iter(TEXTS), 10**6, 10**6)
    assert language.state.num_runs == runs
    if keep:
        kept = [text for run in language.rejected.runs(0) for text in run["text"].to_pylist()]
        assert kept == TEXTS

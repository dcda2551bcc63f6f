from halfling.corpus import ingest
from halfling.corpus.ingest import Ingest, IngestSettings

TEXTS = [f"document {number} of {'many ' * 4}" for number in range(40)]
IN_NO_LATIN_SCRIPT = [f"{number} {'ж' * 30}" for number in range(40)]


def test_what_is_kept_is_written_before_it_fills_memory_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest, "RUN_BYTES", 700)
    monkeypatch.setattr(ingest, "_BATCH_CHARACTERS", 100)
    language = Ingest(tmp_path, "en", IngestSettings())
    language.read(iter([*TEXTS, *IN_NO_LATIN_SCRIPT]), 10**6, 10**6)
    assert language.state.num_runs == 2
    parts = range(language.documents.num_parts)
    written = [text.decode() for part in parts for text in language.documents.read(part)["text"].to_pylist()]
    assert sorted(written) == sorted(text.strip() for text in TEXTS)

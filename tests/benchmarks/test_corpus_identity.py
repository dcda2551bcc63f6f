"""Ids cut word by word are the tokenizer's own on real text; the script itself compares every document."""

from itertools import islice
from pathlib import Path

import pyarrow.compute as pc
import pytest

from halfling.corpus.sources.cc100 import read_documents
from halfling.models.pieces import as_xlm_roberta
from halfling.tokens.encode import TextEncoder
from halfling.tokens.unigram import train_unigram

DATA = Path(__file__).parents[3] / "shared" / "data" / "cc100-mini"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A small tokenizer of all languages of the real data."""
    texts = (text for path in sorted(DATA.glob("*.txt.xz")) for text in islice(read_documents(path), 6))
    paragraphs = (paragraph for text in texts for paragraph in text.split("\n"))
    model = train_unigram(paragraphs, vocab_size=8000, character_coverage=0.9995, num_threads=1)
    folder = tmp_path_factory.mktemp("tokenizer")
    as_xlm_roberta(model, 512).save_pretrained(folder)
    return folder


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_every_language_has_the_tokenizers_ids(tokenizer, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from corpus_identity import identity

    found = identity(tokenizer, DATA, every=40)
    assert len(found) == 90
    assert min(each["documents"] for each in found.values()) > 0
    assert {code: each["different"] for code, each in found.items() if each["different"]} == {}
    # And it would notice: here words lose their capitals.
    cut = TextEncoder._cut
    monkeypatch.setattr(TextEncoder, "_cut", lambda self, words: cut(self, pc.utf8_lower(words)))
    assert any(each["different"] for each in identity(tokenizer, DATA, every=40).values())

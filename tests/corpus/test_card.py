import datasets
import pytest

from halfling.corpus.store import read_batches
from halfling.tokens.pack import PackSettings, pack_corpus


@pytest.fixture(scope="module")
def packed(corpus, tokenizer_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed")
    pack_corpus(settings=PackSettings(block_tokens=32), corpus=corpus, tokenizer=tokenizer_folder, out=out)
    return out


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("streaming", [False, True])
def test_the_text_loads_by_chunk(corpus, streaming):
    rows = list(datasets.load_dataset(str(corpus), "chunk-2", split="train", streaming=streaming))
    expected = [each for path in sorted((corpus / "chunk-2").iterdir()) for b in read_batches(path) for each in b]
    assert [(row["id"], row["lang"], row["text"]) for row in rows] == expected
    assert {row["chunk"] for row in rows} == {2}


@pytest.mark.parametrize("streaming", [False, True])
def test_the_blocks_load_by_chunk(packed, streaming):
    from halfling.tokens.blocks import PackedBlocks

    rows = list(datasets.load_dataset(str(packed), "chunk-3", split="train", streaming=streaming))
    blocks = PackedBlocks(packed / "chunk-3")
    assert [row["lang"] for row in rows] == blocks.languages
    assert [row["input_ids"] for row in rows] == [blocks[n].input_ids.tolist() for n in range(len(blocks))]
    assert [row["starts"] for row in rows] == [blocks[n].starts.tolist() for n in range(len(blocks))]


def test_the_cards_say_what_is_there(corpus, packed):
    text, blocks = ((folder / "README.md").read_text() for folder in (corpus, packed))
    assert "| sw | Swahili | 40 |" in text
    assert "seed: 0" in text
    assert "block_tokens: 32" in blocks
    assert "Common Crawl" in text
    assert "Common Crawl" in blocks

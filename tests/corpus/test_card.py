import datasets
import httpx2
import pytest
from huggingface_hub import HfApi
from typer.testing import CliRunner

from halfling.cli.corpus import corpus as commands
from halfling.corpus.card import push
from halfling.corpus.store import read_batches
from halfling.errors import HalflingError
from halfling.records import Manifest
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


@pytest.fixture
def finished(corpus, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "README.md").write_text("card")
    Manifest(
        stage="s",
        fingerprint="f",
        settings={},
        inputs={},
        versions={},
        seed=0,
        seconds=1.0,
        counts={},
        files={},
        digest="",
    ).write(folder / "manifest.json")
    return folder


def test_pushing_uploads_the_folder_as_a_data_set(finished, monkeypatch):
    calls = []
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setattr(
        HfApi, "create_repo", lambda self, repo, **how: calls.append((repo, how)) or f"https://hub/{repo}"
    )
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **how: calls.append(how))
    result = CliRunner().invoke(commands, ["push", str(finished), "me/corpus", "--private"])
    assert result.output.strip() == "https://hub/me/corpus"
    assert calls[0] == ("me/corpus", {"repo_type": "dataset", "private": True, "exist_ok": True})
    assert calls[1]["folder_path"] == finished
    assert calls[1]["repo_type"] == "dataset"


def test_without_a_token_and_without_a_corpus_pushing_says_so(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(HalflingError, match=r"no token: set HF_TOKEN"):
        push(finished, "me/corpus")
    with pytest.raises(HalflingError, match="not a finished corpus"):
        push(tmp_path, "me/corpus")


def test_a_hub_that_refuses_is_one_line(finished, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    with pytest.raises(HalflingError, match="hub: not a name: "):
        push(finished, "not a name")


def test_a_hub_that_is_not_reached_is_one_line(finished, monkeypatch):
    def unreached(self, repo, **how):
        raise httpx2.ConnectError("[Errno 111] Connection refused")

    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setattr(HfApi, "create_repo", unreached)
    with pytest.raises(HalflingError, match=r"hub: me/corpus: \[Errno 111\] Connection refused"):
        push(finished, "me/corpus")

import json
import random
import shutil
from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer

from halfling.corpus.build import CorpusSettings, build_corpus
from halfling.errors import HalflingError
from halfling.tokens.tokenizer import TokenizerSettings, build_tokenizer

SYLLABLES = {
    "en": "the ri ver mil ing and wat er chil dren boat gra in mar ket town old far",
    "ru": "ре ка ста рая мель ни ца де ти смот рят лод ки зер но го род",
    "sw": "mto ka ri bu ki nu cha za ma ni wa to to ta zam a ma shu",
    "hi": "न दी पु रा नी च क्की के पा स ब ह ती है औ र",
}


def paragraph(chance, code):
    return " ".join("".join(chance.choices(SYLLABLES[code].split(), k=chance.randint(1, 4))) for _ in range(12)) + "."


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("corpus")
    chance = random.Random(0)
    for code in SYLLABLES:
        text = "".join(f"{paragraph(chance, code)}\n{paragraph(chance, code)}\n\n" for _ in range(100))
        (source / f"{code}.txt").write_text(text, encoding="utf-8")
    build_corpus(settings=CorpusSettings(chunks=2), source=source, out=out)
    return out


def build(corpus, out, **settings):
    out.mkdir(exist_ok=True)
    return build_tokenizer(settings=TokenizerSettings(**{"vocab_size": 400, **settings}), corpus=corpus, out=out)


@pytest.fixture(scope="module")
def folder(corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tokenizer")
    build(corpus, out)
    return out


def test_special_tokens_have_xlmrs_ids(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(tokenizer).__name__ == "XLMRobertaTokenizer"
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert tokenizer.convert_tokens_to_ids(specials) == [0, 1, 2, 3, 399]
    assert len(tokenizer) == 400
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id) == (0, 2, 1)
    assert tokenizer.mask_token_id == 399
    assert tokenizer.model_max_length == 512


def test_one_sequence_and_a_pair_are_framed_as_in_xlmr(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    a, b = tokenizer("river", add_special_tokens=False)["input_ids"], tokenizer.encode("mto")[1:-1]
    assert tokenizer("river")["input_ids"] == [0, *a, 2]
    assert tokenizer("river", "mto")["input_ids"] == [0, *a, 2, 2, *b, 2]


def test_a_mask_swallows_the_space_before_it(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = tokenizer.encode("river", add_special_tokens=False)
    assert tokenizer.encode("river <mask>", add_special_tokens=False) == [*plain, 399]


def test_ids_are_sentencepieces_moved_up_by_one(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    chance = random.Random(1)
    lines = [paragraph(chance, code) for code in SYLLABLES for _ in range(100)]
    # Composed and not, full width, ligatures, odd spaces, joiners, controls, and what no piece covers.
    odd = ["  two  spaces ", "ｆｕｌｌ　ｗｉｄｔｈ", "cafe\u0301 café", "ﬁne №5 ½", "a\u00a0b\u200bc\u2009d"]
    for line in [*lines, *odd, "x\x07y", "日本語 🦊", "реки\u0306", ""]:
        expected = [3 if id_ == 0 else id_ + 1 for id_ in processor.encode(line)]
        assert tokenizer.encode(line, add_special_tokens=False) == expected, line


def test_training_twice_gives_the_same_bytes(corpus, folder, tmp_path):
    build(corpus, tmp_path / "again")
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["sentencepiece.bpe.model", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == files
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_training_text_is_shared_by_the_exponent(corpus, tmp_path):
    counts = build(corpus, tmp_path / "out", max_training_bytes="40kB", alpha=0.0, vocab_size=300)
    assert counts["vocab_size"] == 300
    assert set(counts["training_bytes"]) == set(SYLLABLES)
    assert all(9000 < size <= 10_000 for size in counts["training_bytes"].values())


def test_a_vocabulary_too_large_for_the_text_names_the_largest(corpus, tmp_path):
    with pytest.raises(HalflingError, match="too large for this text: set it to at most") as error:
        build(corpus, tmp_path / "out", vocab_size=50_000)
    largest = int(str(error.value).split()[-1])
    assert build(corpus, tmp_path / "out", vocab_size=largest)["vocab_size"] == largest
    with pytest.raises(HalflingError, match=f"at most {largest}"):
        build(corpus, tmp_path / "out", vocab_size=largest + 1)


def test_a_vocabulary_too_small_for_the_characters_names_the_least(corpus, tmp_path):
    with pytest.raises(HalflingError, match="no room for every character: set it to"):
        build(corpus, tmp_path / "out", vocab_size=20)


def test_a_folder_in_the_hubs_form_is_taken_as_it_is(corpus, folder, tmp_path):
    # As FacebookAI/xlm-roberta-large lies on the hub: no class in the tokenizer's configuration.
    hub = tmp_path / "hub"
    hub.mkdir()
    for name in ("tokenizer.json", "sentencepiece.bpe.model"):
        shutil.copy(folder / name, hub / name)
    (hub / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512}))
    (hub / "config.json").write_text(json.dumps({"model_type": "xlm-roberta"}))
    counts = build(corpus, tmp_path / "out", source=str(hub))
    assert counts == {"vocab_size": 400}
    loaded, original = (AutoTokenizer.from_pretrained(path) for path in (tmp_path / "out", folder))
    for line in ["the river, mto; река <mask>", "ｆｕｌｌ　ｗｉｄｔｈ"]:
        assert loaded.encode(line) == original.encode(line)
    assert str(tmp_path) not in (tmp_path / "out" / "tokenizer_config.json").read_text()


def test_a_source_that_cannot_be_loaded_is_one_line(corpus, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{")
    for source in (tmp_path / "broken", tmp_path / "nowhere"):
        with pytest.raises(HalflingError, match="no tokenizer could be loaded") as error:
            build(corpus, tmp_path / "out", source=str(source))
        assert "\n" not in str(error.value)


def test_an_empty_corpus_is_named(tmp_path):
    with pytest.raises(HalflingError, match="holds no chunk-1"):
        build(tmp_path, tmp_path / "out")

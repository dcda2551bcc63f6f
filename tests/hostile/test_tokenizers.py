"""A model without its tokenizer, with another or with other settings: the engine's ids are transformers', or none."""

import json
import random
import unicodedata

import pytest
from transformers import AutoTokenizer

from halfling.engine import AdaptiveEngine
from halfling.engine.exported import read_exported
from halfling.engine.text import join, load_pieces
from halfling.errors import HalflingError
from halfling.evaluate.masked_lm import MaskedLMSettings, measure_masked_lm
from halfling.evaluate.quality import QualitySettings, measure_quality
from halfling.export.write import ExportSettings, export
from halfling.models.pieces import as_xlm_roberta
from halfling.models.shapes import Dimensions, config_for
from halfling.models.trusted import require_fit
from halfling.sample.language import LANGUAGES, read_language
from halfling.tasks.encode import encode
from halfling.tasks.examples import TaggedExample
from halfling.tokens.unigram import train_unigram
from halfling.training.distill import DistillSettings, distill
from halfling.training.exits import ExitsSettings, train_exits
from halfling.training.finetune import FinetuneSettings, finetune

SAMPLES = (0x10000, 0x10FFFF, 0x1D400, 0x1F468, 0x1F1E6, 0x1F3FB, 0x20000, 0x2F800, 0xE0001, 0xE0041, 0xE0100, 0xF0000)


@pytest.fixture(scope="session")
def words():
    """A tokenizer of XLM-R's kind with its table of normalisation, and pieces for letters and marks of many scripts."""
    texts = [text for language in map(read_language, LANGUAGES) for text in (*language.plain, *language.ner)]
    forms = [unicodedata.normalize(form, "Tiếng Việt ầệ 한국어 각 ガパ क़ é ü ñ") for form in ("NFC", "NFD")]
    return as_xlm_roberta(
        train_unigram(iter([*texts, *forms * 20]), vocab_size=900, character_coverage=1.0, num_threads=1), 32
    )


@pytest.fixture
def model(write_classifier, tiny_tasks, tmp_path):
    """A function that writes a plain model for a task with a tokenizer of one's own."""

    def make(task="moods", tokenizer=None, **changes):
        folder = write_classifier(
            tmp_path / "model", tiny_tasks[task], vocab_size=len(tokenizer or range(42)), **changes
        )
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        return folder

    return make


def exported(folder):
    """Return where a model was exported to, or why it was not."""
    out = folder.with_name("exported")
    out.mkdir()
    try:
        export(settings=ExportSettings(backends=("torch",)), model=folder, out=out)
    except HalflingError as error:
        assert not list(out.iterdir())
        return str(error)
    return out


def engine_ids(out, texts):
    pieces = load_pieces(out, read_exported(out).tokenizer)
    return [join(one, None, 10**6)[0] for one in pieces(texts)]


def of_transformers(folder, texts):
    return AutoTokenizer.from_pretrained(folder)(texts)["input_ids"]


def test_the_engine_s_ids_of_every_character_are_transformers(model, words):
    folder = model("moods", words)
    out = exported(folder)
    assert read_exported(out).tokenizer == "native"
    some = range(0x10000, 0x20000, 61)
    codes = [code for code in (*range(0x10000), *some, *SAMPLES) if not 0xD800 <= code < 0xE000]
    # Sixteen to a text: an unknown character must not hide its neighbours, and one text each would take minutes.
    for context in ("a{}b", " {}"):
        each = [context.format(chr(code)) for code in codes]
        texts = [" ".join(each[start : start + 16]) for start in range(0, len(each), 16)]
        assert engine_ids(out, texts) == of_transformers(folder, texts)


def test_the_engine_s_ids_of_marks_joiners_and_long_words_are_transformers(model, words):
    folder = model("moods", words)
    out = exported(folder)
    chance = random.Random(0)
    marks = [chr(code) for code in range(0x3100) if unicodedata.category(chr(code))[0] == "M"]
    joins = [*"\u200d\u200c\u3099\u309a\uff9e\uff9f\ufe0f\u0600\u1100\u1161\u11a8\x85\u2028\r\n\xa0\u200b\ufeff \t"]
    letters = [chr(code) for code in (*range(0x20, 0x250), *range(0x370, 0x500), *range(0xAC00, 0xAC40))]
    texts = [
        "".join(chance.choice(chance.choice((marks, joins, letters))) for _ in range(chance.randint(1, 8)))
        for _ in range(4000)
    ]
    texts += [
        "",
        " ",
        "e\u0323\u0301",
        "tie\u0302\u0301ng Vie\u0323\u0302t",
        "\u1100\u1161\u11a8",
        "a" * 5000,
        "ab" * 999,
    ]
    texts += [
        unicodedata.normalize(form, word) for form in ("NFC", "NFD", "NFKD") for word in ("Việt", "각", "ガ", "क़")
    ]
    own = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # text to the engine, structure to transformers
    texts = [text for text in texts if not any(token in text for token in own)]
    assert engine_ids(out, texts) == of_transformers(folder, texts)


def test_special_tokens_that_somebody_wrote_are_text(model, words):
    out = exported(model("moods", words))
    for token, number in (("<s>", 0), ("<pad>", 1), ("</s>", 2), ("<mask>", len(words) - 1)):
        (ids,) = engine_ids(out, [f"a {token} b"])
        assert number not in ids[1:-1]


@pytest.mark.parametrize("task", ["moods", "names"])
@pytest.mark.parametrize("special", [False, True])
def test_added_tokens_go_along(special, task, model, tmp_path):
    tokenizer = as_if_saved(model("moods"))
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<e1>", "#hash"]})
    else:
        tokenizer.add_tokens(["<e1>", "#hash", "Roma"])
    folder = model(task, tokenizer)
    out = exported(folder)
    texts = ["<e1>", "Anna <e1> lives", "a<e1>b#hash", "Roma Rome Romano", "#hash#hash", "<E1>"]
    assert any(number >= 42 for ids in of_transformers(folder, texts) for number in ids)
    assert engine_ids(out, texts) == of_transformers(folder, texts)
    if task == "names":  # and in the engine itself, word by word
        said = [[token] for token in texts]
        ids = [one.ids.tolist() for one in encode([TaggedExample((text,), ("O",)) for text in texts], tokenizer, 30)]
        assert ids == engine_ids(out, texts)
        assert len(AdaptiveEngine.from_pretrained(out).predict(said)) == len(texts)


def as_if_saved(folder):
    return AutoTokenizer.from_pretrained(folder)


def change(folder, edit, **settings):
    """Change a saved tokenizer's parts, and make transformers load it as it is."""
    parts = json.loads((folder / "tokenizer.json").read_text())
    edit(parts)
    (folder / "tokenizer.json").write_text(json.dumps(parts))
    said = json.loads((folder / "tokenizer_config.json").read_text()) | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(said))


def prefix(how):
    return lambda parts: parts["pre_tokenizer"]["pretokenizers"][1].update(prepend_scheme=how)


TEXTS = ["ANNA Lives", " anna  lives in ROME ", "e\u0301a", "a\u0085b", "maybe"]
CHANGES = {
    "lower-casing": lambda parts: parts.update(normalizer={"type": "Lowercase"}),
    "accents": lambda parts: parts.update(
        normalizer={"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]}
    ),
    "no template": lambda parts: parts.update(post_processor=None),
    "no prefix": prefix("never"),
    "prefix of the first": prefix("first"),
}


@pytest.mark.parametrize("task", ["moods", "names"])
@pytest.mark.parametrize("what", CHANGES)
def test_other_settings_are_carried_exactly_or_refused(what, task, model):
    folder = model(task)
    change(folder, CHANGES[what], tokenizer_class="TokenizersBackend")
    out = exported(folder)
    if what == "no template":
        assert out.startswith(f"{folder}/tokenizer.json: cannot be exported: of ")
        assert "\n" not in out
        return
    assert engine_ids(out, TEXTS) == of_transformers(folder, TEXTS)


@pytest.mark.parametrize("what", ["lower-casing", "no prefix"])
def test_a_tokenizer_that_transformers_loads_as_another_is_refused(what, model):
    # transformers makes XLMRobertaTokenizer's parts anew, whatever the file says.
    folder = model()
    change(folder, CHANGES[what])
    assert "transformers loads it as XLMRobertaTokenizer and cuts " in exported(folder)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_the_other_side_changes_nothing(side, model):
    folder = model()
    change(folder, lambda _: None, padding_side=side)
    assert engine_ids(exported(folder), TEXTS) == of_transformers(folder, TEXTS)


def test_a_tokenizer_that_cuts_the_beginning_is_refused(model):
    folder = model()
    change(folder, lambda _: None, truncation_side="left")
    assert "set truncation_side to right" in exported(folder)


@pytest.fixture
def loads(write_masked_lm, write_classifier, write_packed, full_blocks, tiny_tasks, tmp_path):
    """Everything that reads a model with its tokenizer: a name, the folder that it reads, and what it does."""
    encoder, finetuned = (
        write_masked_lm(tmp_path / "encoder"),
        write_classifier(tmp_path / "plain", tiny_tasks["moods"]),
    )
    packed, out, task = write_packed(tmp_path / "packed", full_blocks(1, 8)), tmp_path / "out", tiny_tasks["moods"]
    out.mkdir()
    student = DistillSettings(student=Dimensions(num_layers=1, width=8, num_heads=2, max_tokens=64), epochs=1)
    heldout = MaskedLMSettings(model="m", blocks=1)
    labelled = {"max_tokens": 30, "epochs": 1}
    return out, {
        "finetune": (
            encoder,
            lambda: finetune(settings=FinetuneSettings(**labelled), encoder=encoder, task=task, out=out),
        ),
        "distill": (encoder, lambda: distill(settings=student, teacher=encoder, packed=packed, out=out)),
        "masked-lm": (encoder, lambda: measure_masked_lm(settings=heldout, model=encoder, packed=packed, out=out)),
        "exits": (finetuned, lambda: train_exits(settings=ExitsSettings(**labelled), finetuned=finetuned, out=out)),
        "quality": (
            finetuned,
            lambda: measure_quality(settings=QualitySettings(), models={"m": finetuned}, out=out),
        ),
        "export": (
            finetuned,
            lambda: export(settings=ExportSettings(backends=("torch",)), model=finetuned, out=out),
        ),
    }


def without(folder):
    for path in [*folder.glob("*token*"), *folder.glob("sentencepiece*")]:
        path.unlink()


def larger(folder):
    tokenizer = as_if_saved(folder)
    tokenizer.add_tokens(["one", "two"])
    tokenizer.save_pretrained(folder)


def numbered_otherwise(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": 5}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without, "holds no tokenizer (no tokenizer.json)"),
        (larger, "its tokenizer has 44 pieces, the model 42"),
        (numbered_otherwise, "its tokenizer's pad_token_id is 1, the model's 5"),
    ],
)
@pytest.mark.parametrize("name", ["finetune", "distill", "masked-lm", "exits", "quality", "export"])
def test_a_model_without_its_own_tokenizer_is_refused_wherever_it_is_read(name, spoil, said, loads):
    out, works = loads
    folder, work = works[name]
    spoil(folder)
    with pytest.raises(HalflingError) as caught:
        work()
    assert str(caught.value).startswith(f"{folder}: {said}")
    assert "\n" not in str(caught.value)
    assert not list(out.iterdir())


def test_a_vocabulary_far_smaller_than_the_table_is_another_and_a_table_rounded_up_is_not(tiny_tokenizer):
    shape = Dimensions(num_layers=1, width=8, num_heads=2)
    require_fit("model", tiny_tokenizer, config_for(shape.with_vocabulary(128)))
    with pytest.raises(HalflingError, match=r"^model: its tokenizer has 42 pieces, the model 129"):
        require_fit("model", tiny_tokenizer, config_for(shape.with_vocabulary(129)))

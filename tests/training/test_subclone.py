import pytest
import torch
from transformers import XLMRobertaForMaskedLM, set_seed

from halfling.models.masked_lm import masked_features
from halfling.models.shapes import Dimensions, config_for
from halfling.training.subclone import calibrate, subclone

DEAD_CHANNELS, DEAD_NEURONS = [2, 7, 8, 13], [*range(0, 48, 2)]


def made(*, width=16, heads=4, ffn=48, layers=2, seed=0, vocab=42, tokens=64):
    set_seed(seed)
    shape = Dimensions(num_layers=layers, width=width, num_heads=heads, ffn_width=ffn, max_tokens=tokens)
    config = config_for(shape.with_vocabulary(vocab))
    config.initializer_range = 0.3
    model = XLMRobertaForMaskedLM(config).eval()
    for name, weight in model.named_parameters():
        if "LayerNorm.weight" in name or "layer_norm.weight" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
        elif "bias" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return model


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 41, (4, 24), generator=generator)
    sequences = torch.ones_like(ids)
    sequences[:, 14:] = 2
    ids[3, 20:], sequences[3, 20:] = 1, 0
    labels = torch.where(torch.rand(ids.shape, generator=generator) < 0.3, ids, -100)
    return {"input_ids": ids, "sequence_ids": sequences, "labels": labels}


def states(model, batch):
    with torch.no_grad():
        said = masked_features(model, **batch, hidden_states=True)
    return said.hidden_states, model.lm_head.decoder(said.features)


@pytest.fixture
def sparse():
    """A teacher of which a quarter of the channels, one dimension of each head and half the neurons say nothing."""
    teacher = made()
    own = teacher.roberta
    with torch.no_grad():
        for table in (own.embeddings.word_embeddings, own.embeddings.position_embeddings):
            table.weight[:, DEAD_CHANNELS] = 0
        own.embeddings.token_type_embeddings.weight[:, DEAD_CHANNELS] = 0
        norms = [part for name, part in teacher.named_modules() if name.endswith(("LayerNorm", "layer_norm"))]
        for part in norms:
            part.weight[DEAD_CHANNELS] = part.bias[DEAD_CHANNELS] = 0
        for layer in own.encoder.layer:
            for dense in (layer.attention.output.dense, layer.output.dense):
                dense.weight[DEAD_CHANNELS] = 0
                dense.bias[DEAD_CHANNELS] = 0
            layer.output.dense.weight[:, DEAD_NEURONS] = 0
            for first in range(0, 16, 4):
                layer.attention.self.query.weight[first + 1] = layer.attention.self.query.bias[first + 1] = 0
                layer.attention.output.dense.weight[:, first + 2] = 0
        teacher.lm_head.dense.weight[DEAD_CHANNELS] = 0
        teacher.lm_head.dense.bias[DEAD_CHANNELS] = 0
    return teacher


def test_a_subclone_of_equal_shape_is_its_teacher(batch):
    teacher, student = made(), made(seed=1)
    subclone(student, teacher, [(1, 1), (2, 2)], batch)
    for name, weight in teacher.state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], weight, msg=name)


def test_what_says_nothing_is_what_is_left_out(sparse, batch):
    weigh = calibrate(sparse, batch)
    assert sorted(weigh.channels.argsort()[:4].tolist()) == DEAD_CHANNELS
    for layer in range(2):
        assert weigh.neurons[layer][DEAD_NEURONS].eq(0).all()
        assert weigh.queries[layer].argmin(dim=1).tolist() == [1] * 4
        assert weigh.values[layer].argmin(dim=1).tolist() == [2] * 4


def test_a_student_of_a_teacher_of_which_a_part_says_nothing_says_the_same(sparse, batch):
    student = made(width=12, ffn=24, seed=1)
    subclone(student, sparse, [(1, 1), (2, 2)], batch)
    kept = [channel for channel in range(16) if channel not in DEAD_CHANNELS]
    keep = batch["sequence_ids"] > 0
    (own, logits), (theirs, expected) = states(student, batch), states(sparse, batch)
    for layer in range(3):
        wanted = theirs[layer][..., kept][keep]
        gap = (own[layer][keep] - wanted).square().mean() / wanted.var()
        # A silent channel counts in a mean; without the corrected scale the gap is over 0.02.
        assert gap < 0.01, layer
    assert torch.corrcoef(torch.stack([logits.flatten(), expected.flatten()]))[0, 1] > 0.97


def test_products_of_queries_and_keys_keep_their_scale_when_heads_shrink(sparse, batch):
    student = made(width=12, ffn=24, seed=1)
    subclone(student, sparse, [(1, 1), (2, 2)], batch)
    own, theirs = (model.roberta.encoder.layer[0].attention.self for model in (student, sparse))
    for head in range(4):
        products = [
            part.query.bias[head * size : (head + 1) * size]
            @ part.key.bias[head * size : (head + 1) * size]
            / size**0.5
            for part, size in ((own, 3), (theirs, 4))
        ]
        torch.testing.assert_close(*products)


def test_whole_heads_are_chosen_by_what_they_put_out(batch):
    teacher, student = made(), made(width=12, heads=3, seed=1)
    with torch.no_grad():
        teacher.roberta.encoder.layer[1].attention.output.dense.weight[:, 4:8] = 0
    subclone(student, teacher, [(1, 1), (2, 2)], batch)
    rows = [*range(4), *range(8, 16)]
    value = student.roberta.encoder.layer[1].attention.self.value
    assert torch.equal(value.bias, teacher.roberta.encoder.layer[1].attention.self.value.bias[rows])


def test_channels_are_the_same_everywhere_and_layers_those_of_the_map(batch):
    teacher, student = made(layers=4), made(width=12, heads=3, seed=1)
    subclone(student, teacher, [(1, 3), (2, 4)], batch)
    kept = calibrate(teacher, batch).channels.topk(12).indices.sort().values
    words = (model.get_input_embeddings().weight for model in (student, teacher))
    own, theirs = words
    assert torch.equal(own, theirs[:, kept])
    for layer, taken in ((0, 2), (1, 3)):
        biases = [
            model.roberta.encoder.layer[number].output.dense.bias
            for model, number in ((student, layer), (teacher, taken))
        ]
        assert torch.equal(biases[0], biases[1][kept])
    assert student.lm_head.decoder.weight is student.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"width": 20, "heads": 4}, "width of at most 16, came 20"),
        ({"width": 16, "heads": 2}, "head_width of at most 4, came 8"),
        ({"width": 10, "heads": 5}, "num_heads of at most 4, came 5"),
        ({"ffn": 64}, "ffn_width of at most 48, came 64"),
        ({"tokens": 99}, "max_tokens of at most 64, came 99"),
        ({"vocab": 50}, "expected 42 pieces, came 50"),
    ],
)
def test_a_student_that_is_no_part_of_its_teacher_is_refused(shape, message, batch):
    with pytest.raises(ValueError, match=f"start=subclone: .*{message}"):
        subclone(made(**shape, seed=1), made(), [(1, 1), (2, 2)], batch)

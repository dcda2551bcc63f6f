import pytest
import torch
from torch import nn
from transformers import XLMRobertaForMaskedLM, set_seed

from halfling.models.masked_lm import masked_features
from halfling.models.shapes import Dimensions, config_for
from halfling.training.fit import fit_layers, whole
from halfling.training.initialise import layers_from
from halfling.training.subclone import subclone


def made(*, width=16, layers=4, seed=0):
    set_seed(seed)
    shape = Dimensions(num_layers=layers, width=width, num_heads=4, ffn_width=3 * width, max_tokens=64)
    config = config_for(shape.with_vocabulary(42), dropout=0.5)
    config.initializer_range = 0.3
    model = XLMRobertaForMaskedLM(config).eval()
    for name, weight in model.named_parameters():
        if "LayerNorm.weight" in name:
            nn.init.uniform_(weight, 0.5, 1.5)
        elif "bias" in name:
            nn.init.normal_(weight, std=0.2)
    return model


def rows(number, seed=1):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 41, (number, 24), generator=generator)
    sequences = torch.ones_like(ids)
    sequences[:, 14:] = 2
    ids[0, 20:], sequences[0, 20:] = 1, 0
    return {"input_ids": ids, "sequence_ids": sequences, "labels": torch.full_like(ids, -100)}


def states(model, batch):
    with torch.no_grad():
        said = masked_features(model.eval(), **batch, hidden_states=True)
    return [layer[batch["sequence_ids"] > 0] for layer in said.hidden_states]


def gaps(student, teacher, pairs, batch, channels=slice(None)):
    own, theirs = states(student, batch), states(teacher, batch)
    return [(own[s] - theirs[t][:, channels]).square().mean().item() for s, t in pairs]


def test_layers_that_are_all_there_stay_as_they_are():
    teacher, student = made(), made(seed=1)
    pairs = [(n, n) for n in range(1, 5)]
    layers_from(student, teacher, pairs)
    fit_layers(student, teacher, whole(student.config, pairs), rows(8))
    for name, weight in teacher.state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], weight, msg=name, atol=1e-4, rtol=0)


def test_a_student_of_every_second_layer_says_more_of_what_its_teacher_says_on_text_not_seen():
    teacher, student, pairs = made(), made(layers=2, seed=1), [(1, 2), (2, 4)]
    layers_from(student, teacher, pairs)
    before = gaps(student, teacher, pairs, rows(20, seed=5))
    fit_layers(student, teacher, whole(student.config, pairs), rows(200))
    after = gaps(student, teacher, pairs, rows(20, seed=5))
    assert all(now < 0.8 * then for now, then in zip(after, before, strict=True))


def test_a_part_of_a_teacher_is_fitted_to_that_part():
    teacher, student, pairs = made(), made(width=12, layers=2, seed=1), [(1, 2), (2, 4)]
    parts = subclone(student, teacher, pairs, rows(8))
    before = gaps(student, teacher, pairs, rows(20, seed=5), parts.channels)
    fit_layers(student, teacher, parts, rows(200))
    after = gaps(student, teacher, pairs, rows(20, seed=5), parts.channels)
    assert all(now < 0.8 * then for now, then in zip(after, before, strict=True))


def test_projections_are_fitted_to_the_teachers_states():
    teacher, student, pairs = made(), made(width=12, layers=2, seed=1), [(1, 2), (2, 4)]
    parts = subclone(student, teacher, pairs, rows(8))
    maps, batch = nn.ModuleDict({"0": nn.Linear(12, 16), "2": nn.Linear(12, 16)}), rows(200)
    fit_layers(student, teacher, parts, batch, maps)
    own, theirs = states(student, batch), states(teacher, batch)
    for layer, of in ((0, 0), (2, 4)):
        assert missed(maps[str(layer)], own[layer], theirs[of]) < 1.02


def missed(linear, read, target):
    """How much a map misses, as a multiple of the least that any would."""
    read, target = read.double(), target.double()
    read_and_one = torch.cat([read, torch.ones(len(read), 1)], dim=1)
    least = read_and_one @ torch.linalg.lstsq(read_and_one, target).solution - target
    with torch.no_grad():
        return (linear.double()(read) - target).square().mean() / least.square().mean()


def test_least_squares_by_hand():
    teacher, student = made(layers=2), made(layers=1, seed=1)
    layers_from(student, teacher, [(1, 2)])
    batch = rows(300)
    fit_layers(student, teacher, whole(student.config, [(1, 2)]), batch)
    # What the layer reads is what the embeddings say; its queries should be those of the teacher's second layer.
    embedded, first, _ = states(teacher, batch)
    asked = teacher.roberta.encoder.layer[1].attention.self.query
    own = student.roberta.encoder.layer[0].attention.self.query
    assert 1 < missed(own, embedded, asked(first).detach()) < 1.02  # the ridge


def test_layers_out_of_order_are_refused():
    teacher, student, pairs = made(), made(layers=2, seed=1), [(1, 4), (2, 2)]
    layers_from(student, teacher, pairs)
    with pytest.raises(ValueError, match="fit_tokens: expected teacher layers in the order of the student's, came"):
        fit_layers(student, teacher, whole(student.config, pairs), rows(2))


def test_one_teacher_layer_may_be_learned_by_two():
    teacher, student, pairs = made(layers=2), made(layers=3, seed=1), [(1, 1), (2, 2), (3, 2)]
    layers_from(student, teacher, pairs)
    before = gaps(student, teacher, pairs, rows(20, seed=5))
    fit_layers(student, teacher, whole(student.config, pairs), rows(200))
    after = gaps(student, teacher, pairs, rows(20, seed=5))
    assert after[2] < 0.8 * before[2]

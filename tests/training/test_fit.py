from typing import NamedTuple

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


def rows(number, seed=1, padding=4):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 41, (number, 24), generator=generator)
    sequences = torch.ones_like(ids)
    sequences[:, 14:] = 2
    ids[::2, 24 - padding :], sequences[::2, 24 - padding :] = 1, 0
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
    fit_layers(student, teacher, whole(student.config, pairs), rows(30))
    for name, weight in teacher.state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], weight, msg=name, atol=1e-4, rtol=0)


@pytest.mark.parametrize("width", [16, 12])
def test_each_part_says_what_its_counterpart_says_as_nearly_as_it_can(width):
    teacher, student, pairs = made(), made(width=width, layers=2, seed=1), [(1, 2), (2, 4)]
    batch = rows(200, padding=20)
    if width == 16:
        layers_from(student, teacher, pairs)
        parts = whole(student.config, pairs)
    else:
        parts = subclone(student, teacher, pairs, rows(8))
    fit_layers(student, teacher, parts, batch)
    own, theirs = (parts_of(model, batch) for model in (student, teacher))
    norm, channels = own["embeddings.LayerNorm"], parts.channels
    assert missed(*norm, theirs["embeddings.LayerNorm"].said[:, channels]) < 1.001
    for (number, of), cut in zip(pairs, parts.cuts, strict=True):

        def counterpart(name, of=of):
            return theirs[f"encoder.layer.{of - 1}.{name}"]

        added = {
            "attention.output.dense": own[f"encoder.layer.{number - 1}.attention.self.query"].read,
            "output.dense": own[f"encoder.layer.{number - 1}.intermediate.dense"].read,
        }
        wanted = {
            "attention.self.query": counterpart("attention.self.query").said[:, cut.asked] * cut.scale,
            "attention.self.key": counterpart("attention.self.key").said[:, cut.asked],
            "attention.self.value": counterpart("attention.self.value").said[:, cut.given],
            "attention.output.dense": counterpart("attention.output.LayerNorm").read[:, channels],
            "attention.output.LayerNorm": counterpart("attention.output.LayerNorm").said[:, channels],
            "intermediate.dense": counterpart("intermediate.dense").said[:, cut.neurons],
            "output.dense": counterpart("output.LayerNorm").read[:, channels],
            "output.LayerNorm": counterpart("output.LayerNorm").said[:, channels],
        }
        for name, target in wanted.items():
            part = own[f"encoder.layer.{number - 1}.{name}"]
            assert missed(*part, target - added.get(name, 0)) < 1.02, name


class Part(NamedTuple):
    module: nn.Module
    read: torch.Tensor
    said: torch.Tensor


def parts_of(model, batch):
    """What each part of a model reads and says of a batch, padding left out."""
    found, keep = {}, batch["sequence_ids"] > 0
    hooks = [
        part.register_forward_hook(
            lambda part, given, said, name=name: found.update({name: Part(part, given[0][keep], said[keep])})
        )
        for name, part in model.roberta.named_modules()
        if isinstance(part, nn.Linear | nn.LayerNorm)
    ]
    states(model, batch)
    for hook in hooks:
        hook.remove()
    return found


def missed(part, read, said, target):
    """How much a fitted part misses, as a multiple of the least that any would: by channel of a normalisation."""
    read, said, target = (each.double() for each in (read, said, target))
    if isinstance(part, nn.LayerNorm):
        plain = nn.functional.layer_norm(read, part.normalized_shape, eps=part.eps)
        plain, wanted = plain - plain.mean(dim=0), target - target.mean(dim=0)
        least = wanted - plain * (plain * wanted).mean(dim=0) / plain.square().mean(dim=0)
    else:
        read_and_one = torch.cat([read, read.new_ones(len(read), 1)], dim=1)
        least = read_and_one @ torch.linalg.lstsq(read_and_one, target).solution - target
    return ((said - target).square().mean() + 1e-9).item() / (least.square().mean() + 1e-9).item()  # 0 of 0 is 1


def test_what_is_left_out_between_layers_is_made_up_for_on_text_not_seen():
    teacher, student, pairs = made(), made(layers=2, seed=1), [(1, 2), (2, 4)]
    layers_from(student, teacher, pairs)
    before = gaps(student, teacher, pairs, rows(20, seed=5))
    fit_layers(student, teacher, whole(student.config, pairs), rows(200))
    after = gaps(student, teacher, pairs, rows(20, seed=5))
    assert all(now < 0.8 * then for now, then in zip(after, before, strict=True))


def test_projections_are_fitted_to_the_teachers_states():
    teacher, student, pairs = made(), made(width=12, layers=2, seed=1), [(1, 2), (2, 4)]
    parts = subclone(student, teacher, pairs, rows(8))
    maps, batch = {0: nn.Linear(12, 16), 2: nn.Linear(12, 16)}, rows(200)
    fit_layers(student, teacher, parts, batch, maps)
    own, theirs = states(student, batch), states(teacher, batch)
    for layer, of in ((0, 0), (2, 4)):
        assert missed(maps[layer], own[layer], maps[layer](own[layer]).detach(), theirs[of]) < 1.02


def test_layers_out_of_order_are_refused():
    teacher, student, pairs = made(), made(layers=2, seed=1), [(1, 4), (2, 2)]
    layers_from(student, teacher, pairs)
    with pytest.raises(ValueError, match="fit_tokens: expected teacher layers in the order of the student's, came"):
        fit_layers(student, teacher, whole(student.config, pairs), rows(2))


def test_few_tokens_are_refused():
    teacher, student = made(layers=2), made(layers=2, seed=1)
    pairs = [(1, 1), (2, 2)]
    layers_from(student, teacher, pairs)
    with pytest.raises(ValueError, match="fit_tokens: 152 tokens are too few for 48 inner neurons: give 192 or more"):
        fit_layers(student, teacher, whole(student.config, pairs), rows(7))


def test_one_teacher_layer_may_be_learned_by_two():
    teacher, student, pairs = made(layers=2), made(layers=3, seed=1), [(1, 1), (2, 2), (3, 2)]
    layers_from(student, teacher, pairs)
    before = gaps(student, teacher, pairs, rows(20, seed=5))
    fit_layers(student, teacher, whole(student.config, pairs), rows(200))
    after = gaps(student, teacher, pairs, rows(20, seed=5))
    assert after[2] < 0.8 * before[2]

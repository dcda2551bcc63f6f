import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import default_collate
from transformers import XLMRobertaForMaskedLM, set_seed

from halfling.models.masked_lm import masked_features
from halfling.models.shapes import Dimensions, config_for
from halfling.tokens.masking import MaskedBlocks
from halfling.training.distill import DistillSettings, distill
from halfling.training.distiller import DistillationTrainer, DistilledMaskedLM, TeacherTargets
from halfling.training.losses import kl_divergence
from halfling.training.trainer import train_resumably, training_arguments

IDS = torch.tensor([[0, 8, 41, 10, 2, 0, 41, 12, 2, 1], [0, 9, 9, 41, 15, 16, 17, 2, 1, 1]])
SEQUENCES = torch.tensor([[1, 1, 1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]])
LABELS = torch.full((2, 10), -100)
LABELS[0, 2], LABELS[0, 6], LABELS[1, 3] = 20, 21, 22
PAIRS = [(0, 0), (2, 3)]


@pytest.fixture
def trainer(tmp_path, teacher, packed):
    set_seed(0)
    config = config_for(Dimensions(num_layers=2, width=8, num_heads=2, max_tokens=64).with_vocabulary(42))
    settings = DistillSettings(batch_size=8, learning_rate=1e-2, warmup_share=0.1, weight_decay=0.1, save_steps=25)
    arguments = training_arguments(tmp_path / "out", settings)
    blocks = MaskedBlocks(packed, epochs=2, blocks_per_step=8, vocab_size=42, mask_id=41, seed=0)
    return DistillationTrainer(
        teacher=XLMRobertaForMaskedLM.from_pretrained(teacher).train(),
        model=DistilledMaskedLM(config, [(1, 2), (2, 4)], teacher_width=16),
        args=arguments,
        train_dataset=blocks,
        data_collator=default_collate,
    )


def test_the_teacher_stays_as_it_was_and_in_evaluation_mode(trainer):
    before = {name: weight.clone() for name, weight in trainer.teacher.state_dict().items()}
    own = trainer.model.roberta.encoder.layer[0].output.dense.weight.clone()
    train_resumably(trainer, lambda *_: None)
    assert not torch.equal(trainer.model.roberta.encoder.layer[0].output.dense.weight, own)
    assert not any(part.training for part in trainer.teacher.modules())
    for name, weight in trainer.teacher.state_dict().items():
        assert torch.equal(weight, before[name]), name
    assert all(weight.grad is None and not weight.requires_grad for weight in trainer.teacher.parameters())


def test_a_teacher_says_the_same_twice_for_it_has_no_dropout(trainer):
    batch = default_collate([trainer.train_dataset[n] for n in range(4)])
    first, again = trainer.targets(batch), trainer.targets(batch)
    assert torch.equal(first.features, again.features)
    assert not first.features.requires_grad


def test_the_teachers_states_are_those_of_the_mapped_layers(trainer):
    batch = default_collate([trainer.train_dataset[n] for n in range(2)])
    ids, sequence_ids = batch["input_ids"], batch["sequence_ids"]
    second = int((sequence_ids[0] == 2).nonzero()[0])
    with torch.no_grad():
        plain = trainer.teacher.roberta(ids[:1, :second], output_hidden_states=True).hidden_states
    states = trainer.targets(batch).hidden_states
    assert len(states) == 2
    for found, layer in zip(states, (2, 4), strict=True):
        torch.testing.assert_close(found[:1, :second], plain[layer], atol=1e-5, rtol=0)


def test_eight_by_one_and_one_by_eight_are_one_trajectory(settings, teacher, packed, tmp_path):
    weights, curves = [], []
    for name, batch_size, accumulation in (("batch", 8, 1), ("parts", 1, 8)):
        out = tmp_path / name
        out.mkdir()
        # 13 epochs of two steps: one log, after 25. Without dropout, whose draws follow the batches.
        now = settings(batch_size=batch_size, gradient_accumulation=accumulation, dropout=0.0, epochs=13)
        counts = distill(settings=now, teacher=teacher, packed=packed, out=out)
        weights.append(load_file(out / "epoch-13" / "model.safetensors"))
        curves.append(counts["curve"])
    assert counts["steps"] == 26
    assert [entry["step"] for entry in curves[0]] == [25]
    for name, weight in weights[0].items():
        if name.endswith("key.bias"):
            continue  # softmax does not see it: its gradient is rounding, which Adam blows up to a step
        torch.testing.assert_close(weights[1][name], weight, atol=1e-6, rtol=0, msg=name)
    for part in ("loss", "hidden", "kl"):
        assert curves[0][0][part] == pytest.approx(curves[1][0][part], abs=2e-4), part


def test_logged_parts_are_means_since_the_last_log(trainer):
    seen = []
    compute = trainer.compute_loss

    def watched(*arguments, **options):
        loss, outputs = compute(arguments[0], arguments[1], return_outputs=True)
        seen.append([loss.item(), outputs["hidden"].item(), outputs["kl"].item()])
        return loss

    trainer.compute_loss = watched
    trainer.args.logging_steps = 2
    curve = train_resumably(trainer, lambda *_: None)
    assert [entry["step"] for entry in curve] == [2, 4]
    for entry, steps in zip(curve, (seen[:2], seen[2:4]), strict=True):
        logged = [entry[part] for part in ("loss", "hidden", "kl")]
        np.testing.assert_allclose(logged, np.mean(steps, axis=0), atol=1e-4)


def test_the_loss_is_the_weighted_sum_of_its_parts(trainer):
    batch = default_collate([trainer.train_dataset[n] for n in range(4)])
    trainer.weights, trainer.temperature = {"hidden": 0.5, "kl": 2.0}, 3.0
    trainer.model.eval()
    loss, parts = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    assert loss.item() == pytest.approx(0.5 * parts["hidden"].item() + 2.0 * parts["kl"].item(), rel=1e-6)
    expected = trainer.model(**batch, targets=trainer.targets(batch), temperature=3.0)["kl"]
    torch.testing.assert_close(parts["kl"], expected)


@pytest.fixture
def student():
    set_seed(1)
    config = config_for(Dimensions(num_layers=2, width=8, num_heads=2, max_tokens=64).with_vocabulary(42))
    return DistilledMaskedLM(config, PAIRS, teacher_width=16).eval()


@pytest.fixture
def targets(teacher):
    model = XLMRobertaForMaskedLM.from_pretrained(teacher).eval()
    with torch.no_grad():
        masked = masked_features(model, IDS, SEQUENCES, LABELS, hidden_states=True)
    states = tuple(masked.hidden_states[layer] for _, layer in PAIRS)
    return TeacherTargets(masked.features, states, model.lm_head.decoder.weight, model.lm_head.decoder.bias)


def test_the_hidden_part_is_the_mean_over_mapped_layers_of_projected_states(student, targets):
    own = masked_features(student, IDS, SEQUENCES, LABELS, hidden_states=True).hidden_states
    keep = SEQUENCES > 0
    gaps = [
        (student.projections[str(layer)](own[layer])[keep] - theirs[keep]).square().mean()
        for (layer, _), theirs in zip(PAIRS, targets.hidden_states, strict=True)
    ]
    hidden = student(IDS, SEQUENCES, LABELS, targets)["hidden"]
    torch.testing.assert_close(hidden, sum(gaps) / 2)


def test_the_divergence_is_of_masked_positions_at_the_temperature(student, targets):
    own = student.lm_head.decoder(masked_features(student, IDS, SEQUENCES, LABELS).features)
    theirs = targets.features @ targets.pieces.T + targets.bias
    assert own.shape == (3, 42)
    found = student(IDS, SEQUENCES, LABELS, targets, temperature=3.0)["kl"]
    torch.testing.assert_close(found, kl_divergence(own, theirs, 3.0))


def test_there_is_a_projection_for_each_mapped_layer_and_no_other(student):
    assert set(student.projections) == {"0", "2"}
    assert student.projections["2"].weight.shape == (16, 8)


def test_every_weight_that_matters_gets_a_gradient(student, targets):
    sum(student(IDS, SEQUENCES, LABELS, targets).values()).backward()
    without = {name for name, weight in student.named_parameters() if weight.grad is None}
    assert without == set()


def test_states_of_equal_width_are_compared_as_they_are():
    student = DistilledMaskedLM(
        config_for(Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=64).with_vocabulary(42)),
        [(1, 2), (2, 4)],
        16,
    )
    assert not len(student.projections)

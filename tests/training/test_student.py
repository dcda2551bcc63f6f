import pytest
import torch
from transformers import XLMRobertaForMaskedLM, set_seed

from halfling.models.masked_lm import masked_features
from halfling.models.shapes import Dimensions, config_for
from halfling.training.losses import kl_divergence
from halfling.training.student import DistilledMaskedLM, TeacherTargets

IDS = torch.tensor([[0, 8, 41, 10, 2, 0, 41, 12, 2, 1], [0, 9, 9, 41, 15, 16, 17, 2, 1, 1]])
SEQUENCES = torch.tensor([[1, 1, 1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]])
LABELS = torch.full((2, 10), -100)
LABELS[0, 2], LABELS[0, 6], LABELS[1, 3] = 20, 21, 22
PAIRS = [(0, 0), (2, 3)]


@pytest.fixture
def student():
    set_seed(1)
    config = config_for(Dimensions(num_layers=2, width=8, num_heads=2, max_tokens=64).with_vocabulary(42))
    config.update({"layer_pairs": PAIRS, "teacher_width": 16})
    config.update({"hidden_weight": 0.5, "kl_weight": 2.0, "kl_temperature": 3.0})
    return DistilledMaskedLM(config).eval()


@pytest.fixture
def targets(teacher):
    model = XLMRobertaForMaskedLM.from_pretrained(teacher).eval()
    with torch.no_grad():
        masked = masked_features(model, IDS, SEQUENCES, LABELS, hidden_states=True)
    states = tuple(masked.hidden_states[layer] for _, layer in PAIRS)
    return TeacherTargets(masked.features, states, model.lm_head.decoder.weight, model.lm_head.decoder.bias)


def test_the_loss_is_the_weighted_sum_of_its_parts(student, targets):
    output = student(IDS, SEQUENCES, LABELS, targets)
    assert output["loss"].item() == pytest.approx(0.5 * output["hidden"].item() + 2.0 * output["kl"].item(), rel=1e-6)


def test_the_hidden_part_is_the_mean_over_mapped_layers_of_projected_states(student, targets):
    own = masked_features(student, IDS, SEQUENCES, LABELS, hidden_states=True).hidden_states
    keep = SEQUENCES > 0
    gaps = [
        (student.projections[str(layer)](own[layer])[keep] - theirs[keep]).square().mean()
        for (layer, _), theirs in zip(PAIRS, targets.hidden_states, strict=True)
    ]
    hidden = student(IDS, SEQUENCES, LABELS, targets)["hidden"]
    torch.testing.assert_close(hidden, sum(gaps) / 2)


def test_the_divergence_is_of_masked_positions_at_the_configured_temperature(student, targets):
    own = student.lm_head.decoder(masked_features(student, IDS, SEQUENCES, LABELS).features)
    theirs = targets.features @ targets.pieces.T + targets.bias
    assert own.shape == (3, 42)
    torch.testing.assert_close(student(IDS, SEQUENCES, LABELS, targets)["kl"], kl_divergence(own, theirs, 3.0))


def test_there_is_a_projection_for_each_mapped_layer_and_no_other(student):
    assert set(student.projections) == {"0", "2"}
    assert student.projections["2"].weight.shape == (16, 8)


def test_every_weight_that_matters_gets_a_gradient(student, targets):
    student(IDS, SEQUENCES, LABELS, targets)["loss"].backward()
    without = {name for name, weight in student.named_parameters() if weight.grad is None}
    assert without == set()

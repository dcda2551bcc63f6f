import pytest
import torch
import torch.nn.functional as F
from transformers import XLMRobertaForMaskedLM

from halfling.models.masked_lm import PackedMaskedLM, masked_features

IDS = torch.tensor([[0, 8, 41, 10, 2, 0, 41, 12, 2, 1], [0, 9, 9, 41, 15, 16, 17, 2, 1, 1]])
SEQUENCES = torch.tensor([[1, 1, 1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]])
LABELS = torch.full((2, 10), -100)
LABELS[0, 2], LABELS[0, 6], LABELS[1, 3] = 20, 21, 22


@pytest.fixture
def models(tmp_path, write_masked_lm):
    folder = write_masked_lm(tmp_path / "model")
    return PackedMaskedLM.from_pretrained(folder).eval(), XLMRobertaForMaskedLM.from_pretrained(folder).eval()


def test_the_loss_is_the_plain_models_cross_entropy_of_each_sequence_alone(models):
    packed, plain = models
    parts = [(0, slice(0, 5)), (0, slice(5, 9)), (1, slice(0, 8))]
    logits = [plain(IDS[row, part][None]).logits[0] for row, part in parts]
    labels = [LABELS[row, part] for row, part in parts]
    expected = F.cross_entropy(torch.cat(logits), torch.cat(labels))
    torch.testing.assert_close(packed(IDS, SEQUENCES, LABELS)["loss"], expected, atol=1e-5, rtol=0)


def test_features_are_of_masked_positions_only_and_one_decoder_away_from_the_logits(models):
    packed, plain = models
    masked = masked_features(packed, IDS, SEQUENCES, LABELS)
    assert masked.features.shape == (3, 16)
    assert masked.targets.tolist() == [20, 21, 22]
    assert masked.hidden_states == ()
    expected = plain(IDS[1:, :8]).logits[0, 3]
    torch.testing.assert_close(packed.lm_head.decoder(masked.features)[2], expected, atol=1e-5, rtol=0)


def test_hidden_states_begin_with_the_embedding_output(models):
    packed, _ = models
    states = masked_features(packed, IDS, SEQUENCES, LABELS, hidden_states=True).hidden_states
    assert len(states) == 3
    torch.testing.assert_close(states[0][1, :8], packed.roberta.embeddings(IDS[1:, :8])[0])


def test_the_weights_are_those_of_the_plain_model(models):
    packed, plain = models
    assert packed.state_dict().keys() == plain.state_dict().keys()

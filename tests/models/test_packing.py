import pytest
import torch
from transformers import XLMRobertaModel, set_seed

from halfling.models.packing import packed_attention, packed_positions
from halfling.models.shapes import Dimensions, config_for


def test_positions_restart_at_two():
    sequence_ids = torch.tensor([[1, 1, 1, 2, 2, 0], [1, 2, 3, 3, 3, 3]])
    assert packed_positions(sequence_ids).tolist() == [[2, 3, 4, 2, 3, 2], [2, 2, 2, 3, 4, 5]]


def test_a_token_sees_its_own_sequence_only():
    seen = packed_attention(torch.tensor([[1, 1, 2, 0]]))[0, 0] == 0
    assert seen.tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]


def test_what_is_not_seen_weighs_nothing_and_no_row_is_nan():
    weights = packed_attention(torch.tensor([[1, 1, 2, 0]])).softmax(dim=-1)[0, 0]
    assert weights[0].tolist() == [0.5, 0.5, 0, 0]
    assert weights[3].tolist() == [0, 0, 0, 1]


@pytest.fixture(params=["sdpa", "eager"])
def encoder(request):
    set_seed(0)
    config = config_for(Dimensions(num_layers=3, width=16, num_heads=2, max_tokens=30).with_vocabulary(40))
    config.initializer_range = 0.3
    config._attn_implementation = request.param
    return XLMRobertaModel(config, add_pooling_layer=False).eval()


def run_packed(encoder, ids, sequence_ids):
    with torch.no_grad():
        return encoder(
            ids, attention_mask=packed_attention(sequence_ids), position_ids=packed_positions(sequence_ids)
        ).last_hidden_state


def test_packed_equals_each_sequence_alone(encoder):
    sequences = [torch.randint(4, 40, (length,)) for length in (7, 1, 12)]
    ids = torch.cat([*sequences, torch.ones(5, dtype=torch.long)])[None]
    sequence_ids = torch.repeat_interleave(torch.tensor([1, 2, 3, 0]), torch.tensor([7, 1, 12, 5]))[None]
    packed = run_packed(encoder, ids, sequence_ids)[0].split([7, 1, 12, 5])
    for sequence, states in zip(sequences, packed, strict=False):
        with torch.no_grad():
            alone = encoder(sequence[None]).last_hidden_state[0]
        torch.testing.assert_close(states, alone, atol=1e-5, rtol=0)


def test_padding_in_a_row_changes_nothing(encoder):
    ids, sequence_ids = torch.randint(4, 40, (1, 9)), torch.tensor([[1] * 4 + [2] * 5])
    bare = run_packed(encoder, ids, sequence_ids)
    padded = run_packed(
        encoder, torch.cat([ids, torch.ones(1, 6, dtype=torch.long)], 1), torch.nn.functional.pad(sequence_ids, (0, 6))
    )
    torch.testing.assert_close(padded[:, :9], bare, atol=1e-5, rtol=0)
    assert padded.isfinite().all()

import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import default_collate
from transformers import XLMRobertaForMaskedLM, set_seed

from halfling.errors import HalflingError
from halfling.models.masked_lm import MaskedReader, masked_features
from halfling.models.shapes import Dimensions, config_for
from halfling.tokens.masking import MaskedBlocks
from halfling.training import arguments as arguments_module
from halfling.training.arguments import training_arguments
from halfling.training.distill import DistillSettings, distill
from halfling.training.distilled import DistilledMaskedLM, TeacherTargets
from halfling.training.distiller import DistillationTrainer, number_of_draw
from halfling.training.layer_losses import (
    attention_loss,
    exit_aware_loss,
    hidden_state_loss,
    mixed_layers,
    relation_loss,
    transport_loss,
)
from halfling.training.layer_maps import layer_map
from halfling.training.losses import OutputLayer, kl_divergence
from halfling.training.objective import Objective, weight_at
from halfling.training.trainer import train_resumably

IDS = torch.tensor([[0, 8, 41, 10, 2, 0, 41, 12, 2, 1], [0, 9, 9, 41, 15, 16, 17, 2, 1, 1]])
SEQUENCES = torch.tensor([[1, 1, 1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]])
LABELS = torch.full((2, 10), -100)
LABELS[0, 2], LABELS[0, 6], LABELS[1, 3] = 20, 21, 22
PAIRS = [(1, 1), (2, 3)]
BOTH = Objective(terms=("hidden", "kl"))


@pytest.fixture
def trainer(tmp_path, teacher, packed):
    set_seed(0)
    config = config_for(Dimensions(num_layers=2, width=8, num_heads=2, max_tokens=64).with_vocabulary(42))
    settings = DistillSettings(batch_size=8, learning_rate=1e-2, warmup_share=0.1, weight_decay=0.1, save_steps=25)
    arguments = training_arguments(tmp_path / "out", settings)
    blocks = MaskedBlocks(packed, epochs=2, blocks_per_step=8, vocab_size=42, mask_id=41, seed=0)
    return DistillationTrainer(
        teacher=MaskedReader.from_pretrained(teacher).train(),
        objective=BOTH,
        weights={"hidden": 1.0, "kl": 1.0},
        pairs_at=lambda step: [(1, 2), (2, 4)],
        model=DistilledMaskedLM(config, [1, 2], teacher_width=16),
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
    first, again = (trainer.targets(batch, [(1, 2)]).output.features for _ in range(2))
    assert torch.equal(first, again)
    assert not first.requires_grad


def test_the_teachers_states_are_those_of_the_mapped_layers(trainer):
    batch = default_collate([trainer.train_dataset[n] for n in range(4)])
    ids, sequence_ids = batch["input_ids"], batch["sequence_ids"]
    row = int(sequence_ids.amax(dim=1).argmax())
    second = int((sequence_ids[row] == 2).nonzero()[0])
    with torch.no_grad():
        plain = trainer.teacher.roberta(ids[row : row + 1, :second], output_hidden_states=True).hidden_states
    states = trainer.targets(batch, [(1, 2), (2, 4)]).hidden_states
    assert {*states} == {2, 4}
    for layer, found in states.items():
        torch.testing.assert_close(found[row : row + 1, :second], plain[layer], atol=1e-5, rtol=0)


# Every term at once, with weights that move and pairs that are drawn anew for every step.
EVERYTHING = {
    **{f"{term}_weight": 0.5 for term in ("embedding", "relation", "attention", "mlm")},
    "hidden_weight": (1.0, 0.2),
    "exit_weight": (0.0, 1.0),
    "attention": "eager",
    "layer_map": "random",
}


@pytest.mark.parametrize("more", [{}, EVERYTHING, {"layer_map": "attention"}])
def test_eight_by_one_and_one_by_eight_are_one_trajectory(more, settings, teacher, packed, tmp_path, monkeypatch):
    make = arguments_module.TrainingArguments
    monkeypatch.setattr(arguments_module, "TrainingArguments", lambda **told: make(**{**told, "logging_steps": 5}))
    weights, curves = [], []
    for name, batch_size, accumulation in (("batch", 8, 1), ("parts", 1, 8)):
        out = tmp_path / name
        out.mkdir()
        # Three epochs of two steps: one log, after five. Without dropout, whose draws follow the batches.
        now = settings(batch_size=batch_size, gradient_accumulation=accumulation, dropout=0.0, epochs=3, **more)
        counts = distill(settings=now, teacher=teacher, packed=packed, out=out)
        weights.append(load_file(out / "epoch-3" / "model.safetensors"))
        curves.append(counts["curve"])
    assert counts["steps"] == 6
    assert [entry["step"] for entry in curves[0]] == [5]
    for name, weight in weights[0].items():
        if name.endswith("key.bias"):
            continue  # softmax does not see it: its gradient is rounding, which Adam blows up to a step
        torch.testing.assert_close(weights[1][name], weight, atol=1e-6, rtol=0, msg=name)
    terms = {"loss", "hidden", "kl"} | {name[:-7] for name in more if name.endswith("_weight")}
    assert {*curves[0][0]} == {"step", *terms}
    for part in terms:
        assert curves[0][0][part] == pytest.approx(curves[1][0][part], abs=2e-4), part


@pytest.mark.parametrize("more", [{}, {"dropout": 0.0, **EVERYTHING}])
def test_activations_computed_again_change_nothing(more, settings, teacher, packed, tmp_path):
    found = []
    for name in (False, True):
        (out := tmp_path / f"{name}").mkdir()
        now = settings(epochs=1, activation_checkpointing=name, **more)  # dropout too: the same draws come again
        distill(settings=now, teacher=teacher, packed=packed, out=out)
        found.append(load_file(out / "epoch-1" / "model.safetensors"))
    assert all(torch.equal(found[1][name], weight) for name, weight in found[0].items())


@pytest.mark.skipif(not shutil.which("g++"), reason="PyTorch compiles for a CPU with g++")
@pytest.mark.filterwarnings("ignore")  # PyTorch's own
@pytest.mark.parametrize("also", [False, True])
def test_compiled_layers_learn_the_same_and_keep_their_names(also, settings, teacher, packed, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    compiled, call = [], torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **how: (compiled.append(layer), call(layer, **how)))
    found = []
    for name in (False, True):
        (out := tmp_path / f"{name}").mkdir()
        now = settings(epochs=1, dropout=0.0, attention="eager", compile=name, activation_checkpointing=name and also)
        distill(settings=now, teacher=teacher, packed=packed, out=out)
        found.append(load_file(out / "epoch-1" / "model.safetensors"))
    assert len(compiled) == 2 + 4, "student and teacher"
    assert {*found[0]} == {*found[1]}
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, atol=1e-5, rtol=0)


def test_what_cannot_be_compiled_is_refused(settings, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="compile=true: relation_weight looks into layers"):
        settings(compile=True, relation_weight=1)
    monkeypatch.setattr(arguments_module.shutil, "which", lambda _: None)
    with pytest.raises(HalflingError, match=r"compile=true: no C\+\+ compiler is here: install g\+\+"):
        arguments_module.training_arguments(tmp_path, settings(compile=True))


def test_how_many_tokens_a_second_are_read_is_said(trainer):
    told = []
    train_resumably(trainer, lambda *now: told.append(now))
    assert trainer.tokens_read == told[-1][0] * trainer.args.per_device_train_batch_size * 24
    assert re.fullmatch(r"[\d,]+ tokens a second", told[0][2])


def test_logged_parts_are_means_since_the_last_log(trainer):
    seen = []
    compute = trainer.compute_loss

    def watched(*arguments, **options):
        loss, outputs = compute(arguments[0], arguments[1], return_outputs=True)
        seen.append([loss.item(), outputs["hidden"].item(), outputs["kl"].item()])
        return loss

    trainer.compute_loss = watched
    trainer.args.logging_steps = 2
    curve = train_resumably(trainer, lambda *_: None, ["hidden", "kl"])
    assert [entry["step"] for entry in curve] == [2, 4]
    for entry, steps in zip(curve, (seen[:2], seen[2:4]), strict=True):
        logged = [entry[part] for part in ("loss", "hidden", "kl")]
        np.testing.assert_allclose(logged, np.mean(steps, axis=0), atol=1e-4)


def test_the_loss_is_the_weighted_sum_of_its_parts(trainer):
    batch = default_collate([trainer.train_dataset[n] for n in range(4)])
    trainer.weights, trainer.objective = {"hidden": 0.5, "kl": 2.0}, BOTH._replace(temperature=3.0)
    trainer.model.eval()
    loss, parts = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    assert loss.item() == pytest.approx(0.5 * parts["hidden"].item() + 2.0 * parts["kl"].item(), rel=1e-6)
    pairs = [(1, 2), (2, 4)]
    targets = trainer.targets(batch, pairs)
    expected = trainer.model(**batch, targets=targets, objective=trainer.objective, pairs=pairs)["kl"]
    torch.testing.assert_close(parts["kl"], expected)


def test_a_weight_of_two_numbers_goes_from_the_first_to_the_second(trainer):
    trainer.weights = {"hidden": (1.0, 0.0), "kl": (0.0, 3.0)}
    seen = []
    compute = trainer.compute_loss

    def watched(*arguments, **options):
        loss, outputs = compute(arguments[0], arguments[1], return_outputs=True)
        done = min(trainer.state.global_step / 3, 1)
        assert loss.item() == pytest.approx((1 - done) * outputs["hidden"].item() + 3 * done * outputs["kl"].item())
        seen.append(trainer.state.global_step)
        return loss

    trainer.compute_loss = watched
    train_resumably(trainer, lambda *_: None)
    assert seen == [0, 1, 2, 3, 4], "four steps, and a look at what the last one made"
    assert [weight_at((0.0, 3.0), done) for done in (0.0, 0.5, 1.0)] == [0, 1.5, 3]
    assert weight_at(2.0, 0.7) == 2.0


@pytest.fixture
def student():
    set_seed(1)
    config = config_for(Dimensions(num_layers=2, width=8, num_heads=2, max_tokens=64).with_vocabulary(42))
    student = DistilledMaskedLM(config, [0, 1, 2], teacher_width=16).eval()
    student.set_attn_implementation("eager")
    return student


@pytest.fixture
def targets(teacher):
    model = XLMRobertaForMaskedLM.from_pretrained(teacher, attn_implementation="eager").eval()
    layers = (1, 2, 3, 4)
    with torch.no_grad():
        masked = masked_features(model, IDS, SEQUENCES, LABELS, hidden_states=True, relations=layers, attentions=True)
    return TeacherTargets(
        hidden_states=dict(enumerate(masked.hidden_states)),
        relations=masked.relations,
        attentions={layer: masked.attentions[layer - 1] for layer in layers},
        output=OutputLayer(masked.features, model.lm_head.decoder.weight, model.lm_head.decoder.bias),
    )


@pytest.fixture
def said(student, targets):
    """A function that returns one term of the loss."""

    def term(name, pairs=PAIRS, **more):
        objective = Objective(terms=(name,), relation_heads=4, **more)
        return student(IDS, SEQUENCES, LABELS, targets, objective, pairs)[name]

    return term


@pytest.fixture
def own(student):
    """What the student says of the batch."""
    return masked_features(student, IDS, SEQUENCES, LABELS, hidden_states=True, relations=(1, 2), attentions=True)


KEEP = SEQUENCES > 0


@pytest.mark.parametrize("kind", ["mse", "cosine", "normalised"])
def test_the_hidden_term_is_the_mean_over_mapped_layers_of_projected_states(kind, student, targets, said, own):
    gaps = [
        hidden_state_loss(student.projections[str(s)](own.hidden_states[s]), targets.hidden_states[t], KEEP, kind)
        for s, t in PAIRS
    ]
    torch.testing.assert_close(said("hidden", hidden_loss=kind), sum(gaps) / 2)


def test_the_attention_map_compares_each_layer_with_its_mixture_of_all(student, targets, said, own):
    theirs = torch.stack([targets.hidden_states[layer] for layer in (1, 2, 3, 4)])
    states = [student.projections[str(layer)](own.hidden_states[layer]) for layer in (1, 2)]
    gaps = [hidden_state_loss(state, mixed_layers(state, theirs), KEEP) for state in states]
    torch.testing.assert_close(said("hidden", layer_map("attention", 2, 4), how="mixture"), sum(gaps) / 2)


def test_the_emd_map_weighs_the_gaps_of_all_layers_by_their_transport(student, targets, said, own):
    gaps = torch.stack(
        [
            torch.stack(
                [
                    hidden_state_loss(student.projections[str(s)](own.hidden_states[s]), targets.hidden_states[t], KEEP)
                    for t in (1, 2, 3, 4)
                ]
            )
            for s in (1, 2)
        ]
    )
    found = said("hidden", layer_map("emd", 2, 4), how="transport")
    torch.testing.assert_close(found, transport_loss(gaps))
    assert gaps.min() <= found <= gaps.mean()


def test_the_embedding_term_compares_the_embedding_outputs(student, targets, said, own):
    expected = hidden_state_loss(student.projections["0"](own.hidden_states[0]), targets.hidden_states[0], KEEP)
    torch.testing.assert_close(said("embedding"), expected)


def test_the_relation_term_is_the_mean_over_pairs_of_queries_keys_and_values(targets, said, own):
    gaps = [
        relation_loss(own.relations[s][name], targets.relations[t][name], SEQUENCES, 4)
        for s, t in PAIRS
        for name in ("query", "key", "value")
    ]
    torch.testing.assert_close(said("relation"), sum(gaps) / 6)


def test_relations_are_those_of_what_the_layer_itself_computes(student, own):
    attention = student.roberta.encoder.layer[1].attention.self
    for name in ("query", "key", "value"):
        torch.testing.assert_close(own.relations[2][name], getattr(attention, name)(own.hidden_states[1]))
    assert not attention.query._forward_hooks, "nobody listens any more"


def test_the_attention_term_is_the_mean_over_pairs_of_probabilities(targets, said, own):
    gaps = [attention_loss(own.attentions[s - 1], targets.attentions[t], SEQUENCES) for s, t in PAIRS]
    torch.testing.assert_close(said("attention"), sum(gaps) / 2)
    elsewhere = SEQUENCES[:, None, :, None] != SEQUENCES[:, None, None, :]
    assert own.attentions[0].masked_select(elsewhere).eq(0).all(), "a sequence sees itself alone"


def test_the_exit_term_pulls_layers_to_the_last(said, own):
    torch.testing.assert_close(said("exit"), exit_aware_loss(own.hidden_states[1:], KEEP))


def test_the_divergence_is_of_masked_positions_at_the_temperature(student, targets, said, own):
    logits = student.lm_head.decoder(own.features)
    assert logits.shape == (3, 42)
    torch.testing.assert_close(said("kl", temperature=3.0), kl_divergence(logits, targets.output.logits(), 3.0))


def test_the_masked_language_model_term_is_the_cross_entropy_with_what_stood_there(student, said, own):
    expected = torch.nn.functional.cross_entropy(student.lm_head.decoder(own.features), torch.tensor([20, 21, 22]))
    torch.testing.assert_close(said("mlm"), expected)


def test_there_is_a_projection_for_each_compared_layer_and_no_other(student):
    assert set(student.projections) == {"0", "1", "2"}
    assert student.projections["2"].weight.shape == (16, 8)


def test_every_weight_that_matters_gets_a_gradient(student, targets):
    objective = Objective(terms=("hidden", "embedding", "kl"))
    sum(student(IDS, SEQUENCES, LABELS, targets, objective, PAIRS).values()).backward()
    without = {name for name, weight in student.named_parameters() if weight.grad is None}
    assert without == set()


def test_states_of_equal_width_are_compared_as_they_are():
    student = DistilledMaskedLM(
        config_for(Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=64).with_vocabulary(42)), [1, 2], 16
    )
    assert not len(student.projections)


def test_a_random_map_is_drawn_for_each_step_or_each_epoch():
    ends = [2, 4, 7]  # two steps, two and three
    assert [number_of_draw(step, ends, "step") for step in range(7)] == [*range(7)]
    assert [number_of_draw(step, ends, "epoch") for step in range(7)] == [0, 0, 1, 1, 2, 2, 2]

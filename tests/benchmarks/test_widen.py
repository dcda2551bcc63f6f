from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.mark.parametrize("task", ["wikiann", "xnli"])
@pytest.mark.parametrize(("width", "heads"), [(32, 2), (32, 4), (48, 3)])
def test_a_widened_model_answers_as_before(task, width, heads):
    import widen

    from halfling.models import EARLY_EXIT_MODELS, XLMRobertaEarlyExitConfig
    from halfling.models.shapes import Dimensions, config_for

    torch.manual_seed(0)
    shape = Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=32).with_vocabulary(50)
    config = config_for(shape).to_dict() | {"initializer_range": 0.5, "exit_layers": [1], "num_labels": 7}
    model = EARLY_EXIT_MODELS[task](XLMRobertaEarlyExitConfig(**config)).eval()
    for value in model.parameters():  # biases begin at 0 and norms at 1, which would hide a mistake
        value.data += 0.2 * torch.randn_like(value)
    wide = widen.widen(model, width, heads)
    ids = torch.randint(4, 50, (3, 12))
    with torch.inference_mode():
        was, now = (each(ids, all_exits=True).exit_logits for each in (model, wide))
    assert wide.config.hidden_size == width
    assert wide.roberta.encoder.layer[0].intermediate.dense.weight.shape == (4 * width, width)
    for before, after in zip(was, now, strict=True):
        assert before.std() > 0.1
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_the_policy_goes_along(write_tagger, tmp_path, monkeypatch, capsys):
    import widen
    from halfling.evaluate.network import load_network

    from halfling.exits.policy import Calibration, ExitPolicy
    from halfling.models.load import load_tokenizer

    write_tagger(tmp_path / "model")
    (tmp_path / "calibration").mkdir()
    policy = ExitPolicy(layers=(1, 2), thresholds=(0.3,))
    Calibration(task="wikiann", policy=policy, curve=()).write(tmp_path / "calibration" / "exit_policy.json")
    places = [str(tmp_path / name) for name in ("model", "calibration", "wide")]
    monkeypatch.setattr("sys.argv", ["widen.py", *places, "--width", "32", "--heads", "2"])
    widen.main()
    assert float(capsys.readouterr().out.split()[-1]) < 1e-4
    wide, chosen = load_network("wikiann", tmp_path / "wide" / "model", tmp_path / "wide" / "calibration")
    assert chosen.thresholds == (0.3,)
    assert len(load_tokenizer(tmp_path / "wide" / "model")) == wide.config.vocab_size


def test_heads_that_are_no_copies_are_refused():
    import widen

    with pytest.raises(SystemExit, match="not copies"):
        widen.head_channels(32, 4, 16, 1)

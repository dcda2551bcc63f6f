from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


def made(head, vocab_size=50):
    """A random model of two layers of 16 with an exit after each."""
    from halfling.models import XLMRobertaEarlyExitConfig
    from halfling.models.classifier import EARLY_EXIT
    from halfling.models.shapes import Dimensions, config_for

    torch.manual_seed(0)
    shape = Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=32).with_vocabulary(vocab_size)
    config = config_for(shape).to_dict() | {"initializer_range": 0.5, "exit_layers": [1], "num_labels": 7}
    model = EARLY_EXIT[head](XLMRobertaEarlyExitConfig(**config)).eval()
    for value in model.parameters():  # biases begin at 0 and norms at 1, which would hide a mistake
        value.data += 0.2 * torch.randn_like(value)
    return model


@pytest.mark.parametrize("head", ["sequence", "token"])
@pytest.mark.parametrize(("width", "heads"), [(32, 2), (32, 4), (48, 3)])
def test_a_widened_model_answers_as_before(head, width, heads):
    import widen

    model = made(head)
    wide = widen.widen(model, width, heads)
    ids = torch.randint(4, 50, (3, 12))
    with torch.inference_mode():
        was, now = (each(ids, all_exits=True).exit_logits for each in (model, wide))
    assert wide.config.hidden_size == width
    assert wide.roberta.encoder.layer[0].intermediate.dense.weight.shape == (4 * width, width)
    for before, after in zip(was, now, strict=True):
        assert before.std() > 0.1
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_a_widened_model_is_a_model_of_the_same_task(tiny_tokenizer, tmp_path, monkeypatch, capsys):
    import widen

    from halfling.tasks.task import Task, read_task

    model, wide = tmp_path / "model", tmp_path / "wide"
    made("token", len(tiny_tokenizer)).save_pretrained(model)
    tiny_tokenizer.save_pretrained(model)
    Task(name="names", kind="tagging").write(model)
    monkeypatch.setattr("sys.argv", ["widen.py", str(model), str(wide), "--width", "32", "--heads", "2"])
    widen.main()
    assert float(capsys.readouterr().out.split()[-1]) < 1e-4
    assert read_task(wide) == read_task(model)
    assert widen.load_tokenizer(wide).get_vocab() == tiny_tokenizer.get_vocab()
    assert widen.load_classifier(wide).config.hidden_size == 32


def test_heads_that_are_no_copies_are_refused():
    import widen

    with pytest.raises(SystemExit, match="not copies"):
        widen.head_channels(32, 4, 16, 1)

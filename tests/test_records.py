import pytest
from pydantic import ValidationError

from halfling.errors import HalflingError
from halfling.exits.calibration import Calibration, TradeOff
from halfling.exits.policy import ExitPolicy
from halfling.records import EncoderShape, json_lines
from halfling.results import Quality

CALIBRATION = Calibration(
    task="entities",
    policy=ExitPolicy(layers=(2, 4), thresholds=(0.125,), token_pooling="max", model="f00d"),
    max_drop=1.0,
    curve=(TradeOff(layers=(2, 4), thresholds=(0.125,), quality=0.5, flops_share=0.75, mean_exit_layer=3.1),),
)
QUALITY = Quality(
    model="student",
    task="intents",
    language="sw",
    runtime="engine",
    precision="int8",
    exits=True,
    seed=1,
    trained_on=False,
    num_examples=3,
    metric="accuracy",
    score=1 / 3,
    accuracy=1 / 3,
    f1=0.1,
    mean_exit_layer=3.0,
    exit_histogram={2: 1, 4: 2},
    gflops=0.1,
    gmacs_linear=0.2,
)


@pytest.mark.parametrize("record", [CALIBRATION, QUALITY])
def test_a_record_survives_its_file(record, tmp_path):
    record.write(tmp_path / "record.json")
    assert type(record).read(tmp_path / "record.json") == record


def test_a_record_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        CALIBRATION.policy.patience = 2


def test_an_unknown_field_is_refused_by_name(tmp_path):
    (tmp_path / "policy.json").write_text('{"layers": [4], "thresholds": [], "treshold": 0.1}')
    with pytest.raises(HalflingError, match=r"policy\.json: not a ExitPolicy \(treshold: Extra inputs") as error:
        ExitPolicy.read(tmp_path / "policy.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"layers": [2, 4], "thresholds": [2]}'])
def test_what_is_no_such_record_is_one_line(text, tmp_path):
    (tmp_path / "policy.json").write_text(text)
    with pytest.raises(HalflingError, match=r"policy\.json: not (JSON|a ExitPolicy) ") as error:
        ExitPolicy.read(tmp_path / "policy.json")
    assert "\n" not in str(error.value)


def test_a_missing_record_is_one_line(tmp_path):
    with pytest.raises(HalflingError, match=r"policy\.json: cannot be read \(No such file"):
        ExitPolicy.read(tmp_path / "policy.json")


def test_heads_divide_the_width():
    with pytest.raises(ValidationError, match="width 10 is not a multiple of num_heads 4"):
        EncoderShape(num_layers=1, width=10, num_heads=4, ffn_width=4, vocab_size=5, max_tokens=8)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_records_a_line_survive_their_file_whatever_their_names_hold(number, tmp_path):
    records = [QUALITY.model_copy(update={"model": "a\u2028b\u0085c"})] * number
    (tmp_path / "quality.jsonl").write_text(json_lines(records), encoding="utf-8")
    assert Quality.read_lines(tmp_path / "quality.jsonl") == records

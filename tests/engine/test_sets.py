"""Exits and thresholds by language: chosen by the caller, the default's where there are none."""

import json
import sys

import pytest

from halfling.engine import AdaptiveEngine, guess
from halfling.engine.exported import read_exported
from halfling.errors import HalflingError
from halfling.exits.calibration import Calibration, OfLanguage, TradeOff
from halfling.exits.policy import ExitPolicy
from halfling.export.trained import load_trained
from halfling.export.write import ExportSettings, export

CAUTIOUS, SWAHILI = ExitPolicy(layers=(2, 3), thresholds=(0.4,)), ExitPolicy(layers=(1, 3), thresholds=(0.8,))


def point_of(policy):
    said = {"layers": policy.layers, "thresholds": policy.thresholds, "patience": policy.patience}
    return TradeOff(**said, quality=1.0, flops_share=1.0, mean_exit_layer=3.0)


def write_policies(folder, default, sets):
    folder.mkdir()
    languages = {
        code: OfLanguage(policy=policy, from_labels=False, point=point_of(policy), num_texts=9, confidence=0.95)
        for code, policy in sets.items()
    }
    calibration = Calibration(task="any", policy=default, languages=languages, curve=())
    calibration.write(folder / "exit_policy.json")
    return folder


@pytest.fixture(scope="module")
def export_with(trained, tmp_path_factory):
    """A function that exports a model with a policy, and sets by language."""

    def make(kind, backend, default, sets):
        place = tmp_path_factory.mktemp("sets")
        policy = write_policies(place / "policy", default, sets)
        (out := place / "model").mkdir()
        export(settings=ExportSettings(backends=(backend,)), model=trained[kind], out=out, policy=policy)
        return out

    return make


def said(answers):
    return [(one.exit_layer, one.label, one.tags) for one in answers]


@pytest.mark.parametrize("backend", ["native", "onnx", "torch"])
@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_a_language_exits_by_its_own_set_and_any_other_by_the_default(kind, backend, export_with, texts):
    loaded = AdaptiveEngine.from_pretrained(export_with(kind, backend, CAUTIOUS, {"sw": SWAHILI}), backend, 1)
    own = loaded.predict(texts[kind], language="sw")
    default = loaded.predict(texts[kind])
    for expected, policy, whose in ((own, SWAHILI, "sw"), (default, CAUTIOUS, None)):
        alone = AdaptiveEngine.from_pretrained(export_with(kind, backend, policy, {}), backend, 1)
        assert said(expected) == said(alone.predict(texts[kind], language="sw"))
        assert {one.policy for one in expected} == {whose}
        # One by one as well, where a backend may have another way.
        one_by_one = [loaded.predict([text], language=whose)[0] for text in texts[kind]]
        assert said(one_by_one) == said(expected)
    assert 1 in {one.exit_layer for one in own} <= {1, 3}
    assert {one.exit_layer for one in default} <= {2, 3}
    assert loaded.predict(texts[kind], language="xx") == default
    assert loaded.predict(texts[kind], language="sw-KE") == own


@pytest.mark.parametrize(
    ("asked", "whose"),
    [("sw", "sw"), ("SW", "sw"), ("sw_KE", "sw"), ("es-419", "es"), ("zh-hant", "zh_Hant"), ("ZH_HANT_TW", "zh_Hant")]
    + [(other, None) for other in ("swa", "sw-Arab", "zh", "zh-Hans", "s", "", "-ke", None)],
)
def test_case_dashes_and_regions_do_not_hide_a_set(asked, whose, export_with):
    sets = dict.fromkeys(("sw", "es", "zh_Hant"), SWAHILI)
    assert read_exported(export_with("sequence", "native", CAUTIOUS, sets)).whose(asked) == whose


def test_a_policy_of_one_language_that_is_another_models_is_refused(export_with):
    strange = SWAHILI.model_copy(update={"model": "0" * 64})
    with pytest.raises(HalflingError, match=r"its policy, with exits \[1, 3\], was made for another model"):
        export_with("sequence", "native", CAUTIOUS, {"sw": strange})


def test_policies_of_several_criteria_are_refused(export_with):
    with pytest.raises(HalflingError, match="its policies differ in criterion or granularity"):
        export_with(
            "sequence", "native", CAUTIOUS, {"sw": SWAHILI, "ur": SWAHILI.model_copy(update={"criterion": "margin"})}
        )


def test_segments_end_wherever_somebody_exits(export_with):
    exported = read_exported(export_with("token", "onnx", CAUTIOUS, {"sw": SWAHILI}))
    assert exported.segments == ((1, 1), (2, 2), (3, 3))
    assert exported.at_ends(SWAHILI).thresholds == (0.8, 0.0)


def test_predict_takes_a_language_and_says_when_it_has_no_set(export_with, halfling):
    model = export_with("sequence", "native", CAUTIOUS, {"sw": SWAHILI})
    own = halfling("predict", model, "a b\tc", "--language", "sw", "--json")
    assert (own.status, own.err, json.loads(own.out)["policy"]) == (0, "", "sw")
    other = halfling("predict", model, "a b\tc", "--language", "ur", "--json")
    assert other.status == 0
    assert other.err == "note: no thresholds of its own for 'ur' (there are sw): the default's hold\n"
    assert "policy" not in json.loads(other.out)


ENGLISH = "The committee said on Tuesday that the results of the elections will be published next week."
SWAHILI_TEXT = "Serikali imesema kwamba watoto wote wanapaswa kwenda shule kuanzia mwaka ujao."
UNSURE = "Rome 1999"


def test_whose_a_text_is_can_be_guessed_text_by_text(export_with):
    loaded = AdaptiveEngine.from_pretrained(export_with("sequence", "native", CAUTIOUS, {"sw": SWAHILI}), "native", 1)
    texts = [SWAHILI_TEXT, ENGLISH, UNSURE, SWAHILI_TEXT + " Ndiyo.", (SWAHILI_TEXT, "Watoto wote wanakwenda shule.")]
    found = loaded.predict(texts, language="auto")
    assert [one.policy for one in found] == ["sw", None, None, "sw", "sw"]
    own, default = loaded.predict(texts, language="sw"), loaded.predict(texts)
    assert said(found) == said([own[0], default[1], default[2], own[3], own[4]])
    assert said(own) != said(default)


def test_a_list_of_words_is_guessed_as_a_text(export_with):
    loaded = AdaptiveEngine.from_pretrained(export_with("token", "native", CAUTIOUS, {"sw": SWAHILI}), "native", 1)
    assert loaded.predict([SWAHILI_TEXT.split()], language="auto")[0].policy == "sw"


def test_without_sets_nothing_is_guessed(export_with, monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    loaded = AdaptiveEngine.from_pretrained(export_with("sequence", "native", CAUTIOUS, {}), "native", 1)
    assert loaded.predict([ENGLISH], language="auto") == loaded.predict([ENGLISH])


def test_a_missing_library_is_one_line(export_with, monkeypatch, halfling):
    guess._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    model = export_with("sequence", "native", CAUTIOUS, {"sw": SWAHILI})
    found = halfling("predict", model, ENGLISH, "--language", "auto")
    assert (found.status, found.out) == (1, "")
    assert found.err == (
        "error: language=auto: py3langid is not installed: pip install 'halfling-nlp[guess]', or name the language\n"
    )


def test_the_command_guesses_and_says_nothing_more(export_with, halfling):
    model = export_with("sequence", "native", CAUTIOUS, {"sw": SWAHILI})
    found = halfling("predict", model, SWAHILI_TEXT, ENGLISH, "--language", "auto", "--json")
    assert (found.status, found.err) == (0, "")
    assert [json.loads(line).get("policy") for line in found.out.splitlines()] == ["sw", None]
    shown = halfling("predict", model, SWAHILI_TEXT, ENGLISH, "--language", "auto").out.splitlines()
    assert [line.split("\t")[1].split(" ", 2)[2] for line in shown] == ["(sw)", "(default)"]


def test_nothing_is_guessed_where_there_is_one_set_for_all(export_with, halfling):
    model = export_with("sequence", "native", CAUTIOUS, {})
    found = halfling("predict", model, SWAHILI_TEXT, "--language", "auto", "--json")
    assert (found.status, found.err) == (
        0,
        "note: this model has one set of thresholds for all languages: none is guessed\n",
    )


def test_a_policys_file_in_place_of_its_folder_is_refused(export_with, tmp_path):
    policy = write_policies(tmp_path / "policy", CAUTIOUS, {"sw": SWAHILI})
    model = export_with("sequence", "native", CAUTIOUS, {})
    with pytest.raises(HalflingError, match=r"exit_policy\.json: is a file: name the folder"):
        load_trained(model, policy / "exit_policy.json")


def test_a_set_whose_thresholds_were_changed_by_hand_is_refused(tmp_path):
    policy = write_policies(tmp_path / "policy", CAUTIOUS, {"sw": SWAHILI}) / "exit_policy.json"
    policy.write_text(policy.read_text().replace("0.8", "1.0", 1))
    with pytest.raises(HalflingError, match="its point is of other exits or thresholds than its policy"):
        Calibration.read(policy)


def test_a_set_that_no_guess_names_is_said(export_with, halfling):
    model = export_with("sequence", "native", CAUTIOUS, {"sw": SWAHILI, "zh-Hans": SWAHILI})
    found = halfling("predict", model, SWAHILI_TEXT, "--language", "auto", "--json")
    assert (found.status, json.loads(found.out)["policy"]) == (0, "sw")
    assert found.err == "note: no guess is ever zh-Hans: name it where you know it\n"


def test_texts_by_the_default_are_one_batch_whatever_is_guessed(export_with, monkeypatch):
    loaded = AdaptiveEngine.from_pretrained(export_with("sequence", "native", CAUTIOUS, {"sw": SWAHILI}), "native", 1)
    asked, answer = [], loaded.answer
    monkeypatch.setattr(loaded, "answer", lambda parts, **more: asked.append(len(parts)) or answer(parts, **more))
    loaded.predict([ENGLISH, UNSURE, "Der Ausschuss hat gestern beschlossen, die Wahlen zu verschieben."], "auto")
    assert asked == [3]

import os
import shutil

import onnxruntime
import pytest

from halfling.engine import AdaptiveEngine, tuning
from halfling.engine.backends.onnx import OnnxBackend
from halfling.engine.backends.openvino import OpenVinoBackend
from halfling.engine.exported import checksum_of
from halfling.engine.machine import this_machine
from halfling.engine.tune import FIXED, _choose, tune
from halfling.engine.tuning import TUNING, Setting, Tuning, TuningWarning
from halfling.errors import HalflingError


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of an exported model, which a tuning may be written into."""
    return shutil.copytree(exported("token"), tmp_path / "model")


@pytest.fixture
def choose(folder):
    """A function that writes a tuning by hand."""

    def write(setting, **changes):
        model = AdaptiveEngine.from_pretrained(folder, "onnx").exported.checksum
        values = {"model": model, "machine": this_machine(), "versions": {}, "rounds": 2, "batch_lengths": (8,)}
        tuning = Tuning(**(values | {"timed": (), "chosen": setting, "segment_times": {8: (1.25,)}} | changes))
        tuning.model_copy(update={"checksum": checksum_of(tuning)}).write(folder / TUNING)

    return write


ONNX = Setting(backend="onnx", threads=1)


def test_every_backend_is_timed_and_the_record_holds_every_figure(folder):
    seen = []
    written = tune(folder, threads=[1], rounds=2, progress=lambda *said: seen.append(said))
    assert written == Tuning.read(folder / TUNING)
    plain = [Setting(backend=name, threads=1) for name in ("openvino", "onnx", "torch")]
    assert {one.setting for one in written.timed} == {*plain, Setting(backend="openvino", threads=1, lengths=FIXED)}
    assert all(list(one.alone_ms) == [16, 32] for one in written.timed)  # the model reads 32 tokens
    assert all(min(*one.alone_ms.values(), one.batch_ms) > 0 for one in written.timed)
    (chosen,) = (one for one in written.timed if one.setting == written.chosen)
    assert (chosen.ratio.lower, chosen.ratio.median, chosen.ratio.upper) == (1, 1, 1)
    assert {tokens: len(times) for tokens, times in written.segment_times.items()} == {8: 3, 16: 3, 32: 3}
    assert all(sum(times) > 0 for times in written.segment_times.values())
    assert {*written.versions} == {"openvino", "onnx", "torch"}
    # Two warm-up rounds and two that count, of the settings and then of the segments.
    assert [done for done, _, _ in seen] == list(range(8))
    assert {total for _, total, _ in seen} == {8}


def test_auto_takes_what_was_chosen_and_the_first_installed_without_it(folder, choose):
    assert isinstance(AdaptiveEngine.from_pretrained(folder).backend, OpenVinoBackend)
    choose(ONNX)
    assert isinstance(AdaptiveEngine.from_pretrained(folder).backend, OnnxBackend)
    assert isinstance(AdaptiveEngine.from_pretrained(folder, "openvino").backend, OpenVinoBackend)
    choose(Setting(backend="openvino", threads=1, lengths=(8, 16)))
    assert AdaptiveEngine.from_pretrained(folder).backend.lengths == (8, 16)
    assert AdaptiveEngine.from_pretrained(folder, lengths=(24,)).backend.lengths == (24,)
    assert AdaptiveEngine.from_pretrained(folder, "openvino").backend.lengths == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": "another"}, "was made for another model and is not used: run `halfling engine tune"),
        ({"machine": this_machine().model_copy(update={"cores": 1000})}, r"another machine \(.*, 1000 cores; here \d"),
        ({"machine": this_machine().model_copy(update={"processor": "Z80"})}, r"another machine \(Z80, "),
        (
            {"machine": this_machine().model_copy(update={"accelerators": ("H1",)})},
            r"another machine \(.*, H1, \d+ cores",
        ),
        ({"versions": {"onnx": "0.1"}}, r"other runtimes \(onnx 0\.1\)"),
    ],
)
def test_a_tuning_of_another_model_or_machine_is_passed_over_with_a_warning(changes, why, folder, choose):
    choose(ONNX, **changes)
    with pytest.warns(TuningWarning, match=why):
        found = AdaptiveEngine.from_pretrained(folder)
    assert isinstance(found.backend, OpenVinoBackend)


def test_a_tuning_whose_runtime_is_gone_is_passed_over_with_a_warning(folder, choose, monkeypatch):
    choose(ONNX)
    monkeypatch.setattr("halfling.engine.tuning.find_spec", lambda name: None)
    with pytest.warns(TuningWarning, match="chose onnx, which is not installed any more"):
        AdaptiveEngine.from_pretrained(folder)


@pytest.mark.parametrize("damage", [lambda text: text[:50], lambda text: text.replace("1.25", "1.15"), lambda _: "\0"])
def test_a_damaged_tuning_is_one_line_and_named_backends_do_not_read_it(damage, folder, choose):
    choose(ONNX)
    (folder / TUNING).write_text(damage((folder / TUNING).read_text()))
    with pytest.raises(HalflingError, match=r"tuning\.json: .*: run `halfling engine tune .* again, or delete it"):
        AdaptiveEngine.from_pretrained(folder)
    AdaptiveEngine.from_pretrained(folder, "onnx")


def test_what_is_clearly_quickest_is_chosen_and_fixed_rows_only_where_they_are_worth_their_memory():
    plain, other = (Setting(backend="openvino", threads=threads) for threads in (1, 2))
    fixed = Setting(backend="openvino", threads=1, lengths=(8,))
    assert _choose({plain: [1.0, 1.2, 1.0], other: [0.9, 1.0, 0.9], ONNX: [3.0, 3.0, 0.1]}) == other
    # In one round of three it was slower: that may be noise.
    assert _choose({plain: [1.0, 1.0, 1.0], other: [0.5, 0.9, 1.4]}) == plain
    assert _choose({plain: [1.0, 2.0], fixed: [0.96, 1.92]}) == plain
    assert _choose({plain: [1.0, 2.0], fixed: [0.94, 1.88]}) == fixed


def test_a_failed_tuning_leaves_the_one_before(folder, choose, monkeypatch):
    choose(ONNX)
    before = (folder / TUNING).read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        tune(folder, threads=[1], lengths=False, rounds=2)
    assert (folder / TUNING).read_bytes() == before
    assert not list(folder.glob(".*"))


def test_a_runtime_that_another_distribution_brings_has_a_version_too(monkeypatch):
    def absent(name):
        raise tuning.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(tuning.metadata, "version", absent)
    assert tuning.versions({"onnx"}) == {"onnx": onnxruntime.__version__}


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_timed(folder, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    def timed(*_, **__):
        raise AssertionError("it was timed")

    monkeypatch.setattr("halfling.engine.tune.TemporaryFile", full)
    monkeypatch.setattr("halfling.engine.tune.interleaved", timed)
    with pytest.raises(OSError, match="No space left"):
        tune(folder)

"""Damaged files and wrong questions, under a sanitizer and under valgrind; `native_fuzz.c` says which."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from halfling.engine.backends.native import WEIGHTS, variants
from halfling.engine.text import NATIVE_FILE
from halfling.export.native import write_native

ROOT = Path(__file__).parents[2]
EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A function that compiles the program, with more flags."""
    spec = importlib.util.spec_from_file_location("native_build", ROOT / "native" / "build.py")
    native_build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native_build)

    def make(*flags, target=None):
        path = tmp_path_factory.mktemp("program") / "fuzz"
        native_build.build(path, target, flags, Path(__file__).with_name("native_fuzz.c"))
        return path

    return make


@pytest.fixture(scope="module")
def folder(write_export):
    """A model with layers of 16 bits before and after one of 8."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "halfling.export.write.write_native",
            lambda *given, **named: write_native(*given, **named | {"wide_layers": (1, 3)}),
        )
        return write_export("token", 0.75, backends=("native",), precision="int8")


def fuzz(command, folder, scratch, variant, rounds, seed):
    given = [folder / WEIGHTS, folder / NATIVE_FILE, scratch, variant, rounds, seed]
    done = subprocess.run([*map(str, (*command, *given))], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout} {done.stderr[-2000:]}"
    return [int(number) for number in done.stdout.split()]


@pytest.mark.slow
def test_nothing_is_undefined_whatever_is_damaged_or_asked(program, folder, tmp_path):
    path = program("-fsanitize=undefined", "-fno-sanitize-recover=all", "-fno-sanitize-trap=all")
    looks = subprocess.run([path, "overflow"], capture_output=True, text=True)
    assert "signed integer overflow" in looks.stderr
    for seed, variant in enumerate(variants()):
        opened, read, _ = fuzz([path], folder, tmp_path / "scratch", variant, 400, seed)
        assert 50 < opened < 400
        assert 50 < read < 400


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_no_memory_is_touched_that_is_not_ours(program, folder, tmp_path):
    path = program("-O1", "-g")
    checked = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full", path]
    opened, read, _ = fuzz(checked, folder, tmp_path / "scratch", "plain", 40, 5)
    assert opened > 5
    assert read > 5


@pytest.mark.slow
@pytest.mark.skipif(
    "HALFLING_TSAN" not in os.environ, reason="the compiler builds its thread sanitizer for minutes: HALFLING_TSAN=1"
)
def test_threads_that_share_a_part_do_not_race(program, folder, tmp_path):
    path = program("-fsanitize=thread", "-g")
    for seed, variant in enumerate(variants()):
        fuzz([path], folder, tmp_path / "scratch", variant, 60, seed + 1)


@pytest.mark.slow
@pytest.mark.skipif(EMULATOR is None, reason="no qemu-aarch64: the variants of Arm were not run")
def test_arm_answers_with_the_same_bits(program, folder, tmp_path):
    here, there = program(), program("-static", target="aarch64-linux-musl")
    scratch = tmp_path / "scratch"
    found = {name: fuzz([here], folder, scratch, name, 1, 7)[-1] for name in variants() if name != "plain"}
    found |= {name: fuzz([EMULATOR, there], folder, scratch, name, 60, 7)[-1] for name in ("arm-dot", "plain")}
    assert len(found) > 2
    assert len({*found.values()}) == 1

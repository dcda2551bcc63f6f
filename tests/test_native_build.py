import importlib.util
from pathlib import Path

import pytest

from halfling.native import wasm_module

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def native_build():
    spec = importlib.util.spec_from_file_location("native_build", ROOT / "native" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("target", "tag"),
    [
        ("x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64"),
        ("aarch64-linux-musl", "musllinux_1_1_aarch64"),
        ("aarch64-macos.11.0", "macosx_11_0_arm64"),
    ],
)
def test_a_wheel_says_which_platform_its_library_is_for(target, tag, native_build):
    assert native_build.platform_tag(target) == tag


@pytest.mark.slow
def test_the_library_is_compiled_for_arm_too(native_build, tmp_path):
    native_build.build(tmp_path / "lib", target="aarch64-linux-gnu.2.17")
    content = (tmp_path / "lib").read_bytes()
    assert content[:4] == b"\x7fELF"
    assert int.from_bytes(content[18:20], "little") == 183  # the processor's number in an ELF file
    for name in (b"arm-dot", b"plain"):
        assert name in content


@pytest.mark.slow
def test_the_library_is_compiled_for_browsers_which_it_asks_for_nothing():
    content = wasm_module()  # compiled here, or before by a test that exports for browsers
    assert content[:8] == b"\0asm\1\0\0\0"
    assert len(content) < 200_000
    sections, at = set(), 8
    while at < len(content):
        number, size, shift = content[at], 0, 0
        while True:  # LEB128
            at += 1
            size |= (content[at] & 0x7F) << shift
            shift += 7
            if content[at] < 0x80:
                break
        sections.add(number)
        at += 1 + size
    assert at == len(content)
    assert 7 in sections  # exports
    assert 2 not in sections  # imports


def test_a_compiler_that_refuses_is_one_error_with_its_words(native_build, tmp_path):
    with pytest.raises(RuntimeError, match="ziglang: "):
        native_build.build(tmp_path / "lib", flags=("-fno-such-flag",))
    assert not (tmp_path / "lib").exists()


def test_the_sources_stay_few():
    """Blank lines and comments aside."""
    lines = [line.strip() for path in ROOT.glob("native/*.[ch]") for line in path.read_text().splitlines()]
    assert 1000 < sum(bool(line) and not line.startswith("//") for line in lines) <= 2000

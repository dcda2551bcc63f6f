"""The recipe of the container: taken without Docker where that is asked for, and whole in any case."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_what_the_build_needs_is_not_left_out_of_the_container():
    listed = (ROOT / ".dockerignore").read_text().split()
    recipe = (ROOT / "Dockerfile").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    named = re.findall(r'(?:readme = |license-files = \[)"(.+?)"', project)
    for needed in ("constraints.txt", "hatch_build.py", "pyproject.toml", "src", "native", *named):
        assert (ROOT / needed).exists()
        assert needed not in listed
    assert "--constraint constraints.txt '.[serve]'" in recipe


@pytest.mark.slow
@pytest.mark.skipif("HALFLING_REHEARSE" not in os.environ, reason="downloads packages: set HALFLING_REHEARSE=1")
def test_the_container_s_steps_end_in_a_service_that_answers(write_tagger, tmp_path):
    from halfling.exits.calibration import Calibration
    from halfling.exits.policy import ExitPolicy
    from halfling.export.write import ExportSettings, export

    (policy := tmp_path / "policy").mkdir()
    Calibration(task="any", policy=ExitPolicy.uniform((1, 2), 0.7), curve=()).write(policy / "exit_policy.json")
    (out := tmp_path / "served").mkdir()
    export(settings=ExportSettings(max_int8_drop=None), model=write_tagger(tmp_path / "model"), out=out, policy=policy)
    script = ROOT / "deploy" / "rehearse.sh"
    found = subprocess.run(
        ["sh", script, out], capture_output=True, text=True, timeout=280, check=False, start_new_session=True
    )
    assert found.returncode == 0, found.stderr[-2000:]
    lines = found.stdout.splitlines()
    assert lines[-1] == "stopped as asked"
    assert "healthy" in lines

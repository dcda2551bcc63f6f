import sys

import numpy as np
import pytest

from halfling.cost.memory import peak_bytes, peak_bytes_of_this_process
from halfling.errors import HalflingError

MB = 10**6
CHILD = """
import json
import sys
from halfling.cost.memory import peak_bytes_of_this_process
held = b"x" * int(sys.argv[1])
del held
print("a line of its own")
print(json.dumps({"peak_bytes": peak_bytes_of_this_process()}))
"""


def _child(size: int) -> list[str]:
    return [sys.executable, "-c", CHILD, str(size)]


def test_a_child_reports_its_own_peak_though_its_parent_is_larger():
    held_by_parent = np.ones(600 * MB, dtype=np.uint8)
    small, large = peak_bytes(_child(1)), peak_bytes(_child(200 * MB))
    assert peak_bytes_of_this_process() > held_by_parent.nbytes
    assert small < 100 * MB
    assert large - small == pytest.approx(200 * MB, rel=0.05)


def test_what_was_freed_still_counts():
    before = peak_bytes_of_this_process()
    grown = np.ones(before + 50 * MB, dtype=np.uint8)
    size = grown.nbytes
    del grown
    assert peak_bytes_of_this_process() >= size


def test_a_failing_process_is_named_with_the_last_line_of_its_stderr():
    command = [sys.executable, "-c", "import sys; print('noise', file=sys.stderr); sys.exit('no such model')"]
    with pytest.raises(HalflingError, match=r"failed with status 1: no such model$"):
        peak_bytes(command)


@pytest.mark.parametrize("said", ["", "hello", "[1]", '{"other": 1}'])
def test_a_process_that_does_not_end_with_its_peak_is_refused(said):
    with pytest.raises(HalflingError, match="expected a last line"):
        peak_bytes([sys.executable, "-c", f"print({said!r})"])

"""Keeps the libraries from reporting to their makers: nothing leaves the machine but to places that the user named."""

import os
import sys

_OFF = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def turn_off() -> None:
    """Turn telemetry off in this process and its children, for libraries that are imported from now on.

    OpenVINO knows no such switch, but does without the package that reports: it becomes one that is not installed.
    """
    os.environ.update(_OFF)
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

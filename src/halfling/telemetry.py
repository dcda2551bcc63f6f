"""Keeps the libraries from reporting to their makers: nothing leaves the machine but to places that the user named."""

import os

_OFF = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def turn_off() -> None:
    """Turn telemetry off in this process and its children, for libraries that are imported from now on."""
    os.environ.update(_OFF)

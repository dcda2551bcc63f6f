"""Logs as JSON, one object a line; without messages of exceptions, which may quote what somebody sent."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

_OWN = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "color_message", "taskName"}


class JsonLines(logging.Formatter):
    """Writes a record as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **{name: value for name, value in record.__dict__.items() if name not in _OWN},
        }
        if record.exc_info and record.exc_info[0]:
            kind, _, trace = record.exc_info
            said["error"] = kind.__name__
            said["event"] = "failure"  # what uvicorn says of it holds the whole trace
            said["trace"] = [f"{place.filename}:{place.lineno}" for place in traceback.extract_tb(trace)[-8:]]
        return json.dumps(said, ensure_ascii=False, default=str)


def start_logging(level: str) -> None:
    """Send our lines and uvicorn's to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, at in (("halfling.serve", level), ("uvicorn", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(at.upper())

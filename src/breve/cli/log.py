"""Lines in the form of Caffe's log, for pipes and files."""

from __future__ import annotations

import logging
import sys
import threading
import time

log = logging.getLogger("breve")


class CaffeFormatter(logging.Formatter):
    """`I1123 12:31:03.031576  7603 solver.py:290] message`: severity, date, time, thread and place."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        clock = time.strftime("%m%d %H:%M:%S", time.localtime(record.created))
        microseconds = int(record.created % 1 * 1e6)
        place = f"{record.filename}:{record.lineno}"
        thread = threading.get_native_id()
        return f"{record.levelname[0]}{clock}.{microseconds:06d} {thread:5d} {place}] {record.getMessage()}"


class StdoutHandler(logging.Handler):
    """Writes each line to stdout at once, so that whoever reads the pipe sees it when it happens."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stdout.write(self.format(record) + "\n")
        sys.stdout.flush()


def log_to_stdout() -> None:
    """Send what breve logs to stdout in Caffe's form."""
    handler = StdoutHandler()
    handler.setFormatter(CaffeFormatter())
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False

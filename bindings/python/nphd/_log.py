"""Messages of the library, and of the timer, in Python's logging under the name "nphd"."""

from __future__ import annotations

import logging
import time
from types import TracebackType

logger = logging.getLogger("nphd")

# by number in nphd/log.h
_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)


def receive(level: int, text: str) -> None:
    """Take a message of the library."""
    logger.log(_LEVELS[level], "%s", text)


class timer:
    """Log how long a block takes, at its end and, if asked, its beginning.

    message: what is done. log_start: also log that it begins. level: of logging, as a name or a
    number. Exceptions pass through. `elapsed` has the seconds afterwards.

        >>> with timer("reading", log_start=True):
        ...     pass
    """

    def __init__(self, message: str, log_start: bool = False, level: str | int = "DEBUG") -> None:
        self.message = message
        self.log_start = log_start
        self.level: int = logging.getLevelName(level) if isinstance(level, str) else level
        self.elapsed = 0.0
        self._begin = 0.0

    def __enter__(self) -> timer:
        self._begin = time.perf_counter()
        if self.log_start:
            logger.log(self.level, "%s - started", self.message)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.elapsed = time.perf_counter() - self._begin
        logger.log(self.level, "%s - completed (%.4f seconds)", self.message, self.elapsed)

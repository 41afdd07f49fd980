"""Log a failure that lasts, or comes and goes, once a minute, and its end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

LOG_S: Final = 60.0


class LastingFailure:
    """A failure of one kind of work, named ``what``. ``clock`` is monotonic, s."""

    def __init__(self, log: logging.Logger, what: str, clock: Callable[[], float]) -> None:
        self._log = log
        self._what = what
        self._clock = clock
        self._since: float | None = None
        self._logged_at: float | None = None
        self._is_known = False
        """True from the line that tells of it to the line that tells of its end."""
        self._failed = 0

    def failed(self, error: Exception, count: int = 1) -> None:
        """Note that work failed, so many times."""
        now = self._clock()
        self._failed += count
        if self._since is None:
            self._since = now
        if self._logged_at is not None and now - self._logged_at < LOG_S:
            return
        self._logged_at, self._is_known = now, True
        self._log.warning("%s cannot be stored: %s", self._what, error)

    def succeeded(self) -> None:
        """Note that work did not fail."""
        if self._since is None:
            return
        extra = {"seconds": round(self._clock() - self._since, 1), "failed": self._failed}
        self._since = None
        if self._is_known:
            self._failed, self._is_known = 0, False
            self._log.info("%s can be stored again", self._what, extra=extra)

    def __repr__(self) -> str:
        return f"<LastingFailure of {self._what}: {self._failed}>"

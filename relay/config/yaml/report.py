"""The faults and warnings of one resource or settings file, in the order of the file."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter

import msgspec

from relay.config.yaml.document import FAULTS_MAX, Document, Where
from relay.config.yaml.source_positions import TextMark
from relay.runtime.errors import Fault


class _Finding(msgspec.Struct, frozen=True):
    """A fault or warning; the place is as in :meth:`Document.place`."""

    where: Where
    message: str
    on_key: bool
    offset: int | None
    reason: str = ""


class Report:
    """The faults and warnings of one subject (a resource, a settings file) in one document."""

    __slots__ = ("_count", "_faults", "_warnings", "document", "subject")

    def __init__(self, document: Document) -> None:
        self.document = document
        self.subject = ""
        # There are thousands of reports, and nearly all of them stay empty.
        self._faults: tuple[_Finding, ...] = ()
        self._warnings: tuple[_Finding, ...] = ()
        self._count = 0

    def __repr__(self) -> str:
        return f"<Report {self.origin()}: {self._count} faults>"

    def another(self) -> Report:
        """Return an empty report of the same subject."""
        report = Report(self.document)
        report.subject = self.subject
        return report

    @property
    def faulty(self) -> bool:
        """True if there is any fault."""
        return self._count > 0

    @property
    def count(self) -> int:
        """Number of faults, those beyond the limit included."""
        return self._count

    @property
    def overflowed(self) -> bool:
        """True if there are more faults than are kept."""
        return self._count > len(self._faults)

    def located_faults(self) -> tuple[tuple[Where, Fault], ...]:
        """Return every fault that is kept, with its place, as they were found."""
        return tuple(
            (one.where, placed)
            for one, placed in zip(self._faults, self._as_faults(self._faults), strict=True)
        )

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Every fault in the order of the file; beyond a limit, how many more there were."""
        faults = self._placed(self._faults)
        if self._count > len(faults):
            more = f"{self._count - len(faults)} more faults"
            last = faults[-1]
            faults.append(Fault("", more, self.origin(), place=last.place, file=last.file))
        return tuple(faults)

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """Every warning in the order of the file."""
        return tuple(self._placed(self._warnings))

    def _placed(self, findings: tuple[_Finding, ...]) -> list[Fault]:
        return sorted(self._as_faults(findings), key=attrgetter("place"))

    def _as_faults(self, findings: tuple[_Finding, ...]) -> list[Fault]:
        return [self._as_fault(one) for one in findings]

    def _as_fault(self, one: _Finding) -> Fault:
        found = self.document.fault(
            one.where, one.message, subject=self.subject, on_key=one.on_key, offset=one.offset
        )
        return replace(found, reason=one.reason) if one.reason else found

    def origin(self, where: Where = ()) -> str:
        """Return file, line, document and subject, as in ``Fault.origin``."""
        return self.document.origin(where, self.subject)

    def fault(
        self,
        where: Where,
        message: str,
        *,
        on_key: bool = False,
        offset: int | None = None,
        reason: str = "",
    ) -> None:
        """Note a fault, of the key of a field or of a character of its text if so said."""
        if not isinstance(where, TextMark) and self.document.is_repaired(where):
            return  # a consequence of what was taken out, which is a fault itself
        self._count += 1
        if len(self._faults) < FAULTS_MAX:
            self._faults += (_Finding(where, message, on_key, offset, reason),)

    def warn(self, where: Where, message: str, *, offset: int | None = None) -> None:
        """Note a warning."""
        if len(self._warnings) < FAULTS_MAX:
            self._warnings += (_Finding(where, message, on_key=False, offset=offset),)

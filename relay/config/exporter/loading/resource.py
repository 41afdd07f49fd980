"""One resource of any origin, valid or not, and everything that is known of it by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.config.export_policy.refusal import refused_sinks, without
from relay.config.exporter.load_result import ObjectKey, ObjectResult
from relay.config.exporter.types import Exporter, RefusedSink
from relay.config.yaml.document import Where
from relay.config.yaml.report import Report
from relay.runtime.errors import Fault


@dataclass(slots=True)
class ManifestResource:
    """One resource of a document, or a placeholder for it, and its own faults.

    ``uid`` and ``generation`` are those of its metadata, "" and 0 where it has none.
    """

    report: Report
    where: Where = ()
    project: str = ""
    key: ObjectKey | None = None
    """Name of an Exporter or ExportPolicy among all sources, None for others."""
    uid: str = ""
    generation: int = 0
    identity: tuple[str, str, str, str] | None = None
    """Kind, project, namespace and name."""
    exporter: Exporter | None = None
    """An ExportPolicy's has all sinks, the refused ones among them."""
    draft: Exporter | None = None
    """A faulty exporter, kept to check its secrets as well."""
    refused: tuple[RefusedSink, ...] = ()
    """Sinks of an ExportPolicy with faults that the resource alone shows."""
    accepted: Exporter | None = None
    """The exporter without refused sinks, as it was last loaded."""
    missing: int = 0
    """Faults of its secrets when they were last looked up."""
    data: Mapping[str, bytes] | None = field(default=None, repr=False)
    """Values of a Secret."""
    type: str = ""
    """Type of a Secret, "" if it has none."""
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    has_good_secrets: bool = False
    """For an exporter: its secrets were found, and nothing they depend on has changed since."""
    has_patterns: bool | None = None
    """True if the exporter has regular expressions; None: nobody has looked."""
    result: ObjectResult | None = None
    """Outcome of an Exporter or ExportPolicy when all were last combined."""

    @property
    def is_empty(self) -> bool:
        """True if the document is empty and without faults."""
        return self.identity is None and not self.faults

    def settle(self) -> None:
        """Store the faults found, before the document is dropped."""
        self.faults = self.report.faults
        self.warnings = self.exporter.warnings if self.exporter else self.report.warnings
        if self.exporter is None or not self.report.faulty:
            return
        refused = refused_sinks(self.exporter, self.where, self.report)
        if refused is None:
            self.draft, self.exporter = self.exporter, None
        else:
            self.refused = refused

    def accept(self, refused: tuple[RefusedSink, ...]) -> None:
        """Set ``accepted``: the same object as before where nothing has changed."""
        assert self.exporter is not None, "a faulty resource is not accepted"
        if not refused:
            self.accepted = self.exporter
        elif self.accepted is None or self.accepted.refused != refused:
            self.accepted = without(self.exporter, refused)

    def keep_result(self, result: ObjectResult) -> ObjectResult:
        """Store and return an outcome: the object of the last time where nothing has changed."""
        before = self.result
        if before is None or before.exporter is not result.exporter or before != result:
            self.result = before = result
        return before

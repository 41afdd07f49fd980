"""Make the answers of kinds that can only be created, and of subresources that are computed."""

from __future__ import annotations

from relay.apiserver.actions.explanations import ExplainAction
from relay.apiserver.actions.previews import PreviewAction
from relay.apiserver.actions.sink_tests import SinkTestAction
from relay.apiserver.actions.subjects import Subjects
from relay.apiserver.actions.taps import TapAction
from relay.apiserver.http.actions import Actions, Tap
from relay.apiserver.store.served_objects import ServedObjects
from relay.control.tools import ExporterTools


def make_actions(objects: ServedObjects, tools: ExporterTools) -> Actions:
    """Return the actions by the plural of their kind."""
    subjects = Subjects(objects, tools.preview.running)
    return {
        "exporterpreviews": PreviewAction(subjects, tools.preview),
        "sinktests": SinkTestAction(subjects, tools.test),
        "seriesexplanations": ExplainAction(subjects, tools.explain),
    }


def make_tap(objects: ServedObjects, tools: ExporterTools) -> Tap:
    """Return the answer of the subresource ``tap``."""
    return TapAction(Subjects(objects, tools.preview.running), tools.tap)

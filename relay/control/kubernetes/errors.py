"""Define the errors of a control plane's client.

The type says what can be done about an error:

* :class:`UnreachableError`, :class:`ThrottledError`: the same request may succeed later.
* :class:`ExpiredError`: the position is gone; a new list is needed.
* :class:`WriteConflictError`: the object has changed; read it again.
* :class:`RequestRefusedError`: refused until somebody changes something on the server.
* :class:`MalformedAnswerError`: the answer does not follow the protocol.

Messages never contain a token, a key, or the content of an object.
"""

from __future__ import annotations

from relay.runtime.errors import RelayError


class KubernetesError(RelayError):
    """Base class of every failure of a request to a control plane.

    ``retry_after_s`` is the time for which the server asks to be left alone, None without a wish.
    """

    retry_after_s: float | None = None


class UnreachableError(KubernetesError):
    """Report that no answer, or no whole answer, came from the control plane."""


class MalformedAnswerError(KubernetesError):
    """Report an answer that does not follow the protocol, or is over a limit."""


class PageTooLargeError(MalformedAnswerError):
    """Report a body that is longer than its limit in bytes."""


class AnswerError(KubernetesError):
    """Report an answer other than success.

    ``status`` is the HTTP status or the code of a Status object, ``reason`` Kubernetes' word or "".
    """

    def __init__(
        self, message: str, *, status: int, reason: str = "", retry_after_s: float | None = None
    ) -> None:
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(message)


class ThrottledError(AnswerError):
    """Report 429, or a server error (5xx): the same request may succeed later."""


class ExpiredError(AnswerError):
    """Report that the resource version or the continue token is too old (410), or of later objects.

    The latter, 504, is answered where a server was restored, or is behind the one asked before.
    """


class WriteConflictError(AnswerError):
    """Report 409: the object is not as the request assumes."""


class RequestRefusedError(AnswerError):
    """Report any other 4xx; retrying helps only after a change on the server."""


class AbsentError(RequestRefusedError):
    """Report 404: the object, or its whole kind, does not exist."""


_TOO_LARGE = "Too large resource version"
"""Words of a 504 for a version that the server does not know; client-go looks for them, too."""
_BY_STATUS: dict[int, type[AnswerError]] = {
    404: AbsentError,
    409: WriteConflictError,
    410: ExpiredError,
    429: ThrottledError,
}


def answer_error(
    message: str, *, status: int, reason: str = "", retry_after_s: float | None = None
) -> AnswerError:
    """Return the error of a status: the type decides what can be done about it."""
    kind = _BY_STATUS.get(status, ThrottledError if status >= 500 else RequestRefusedError)
    if status == 504 and _TOO_LARGE in message:
        kind = ExpiredError
    return kind(message, status=status, reason=reason, retry_after_s=retry_after_s)

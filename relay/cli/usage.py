"""Report arguments of the command line that do not go together."""

from __future__ import annotations

from relay.runtime.errors import ConfigError, Fault


class UsageError(ConfigError):
    """Report wrong use of the command line: the exit status is 2, as argparse has it."""

    def __init__(self, argument: str, message: str) -> None:
        super().__init__([Fault(argument, message)])

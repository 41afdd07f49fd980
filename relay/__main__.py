"""``python -m relay`` and ``relay`` are the same command."""

import signal
import sys

if sys.argv[1:2] == ["run"]:
    # Until the relay listens for it, a wish to reload must not end the process: loading takes half
    # a second, and what is loaded then is new anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

from relay.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())

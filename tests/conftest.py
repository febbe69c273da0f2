"""For all tests: Ctrl-C works in the processes that they start, however they were started themselves."""

from __future__ import annotations

import signal

# A shell that starts a command in the background lets it ignore Ctrl-C, and whatever that command starts, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

"""For all tests: Ctrl-C works in the processes that they start, and the cache of digests is one of their own."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

if "CROSSTIME_CACHE" not in os.environ:
    os.environ["CROSSTIME_CACHE"] = tempfile.mkdtemp(prefix="crosstime-cache-")
    atexit.register(shutil.rmtree, os.environ["CROSSTIME_CACHE"], ignore_errors=True)

# A shell that starts a command in the background lets it ignore Ctrl-C, and whatever that command starts, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

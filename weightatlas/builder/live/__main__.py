"""``python -m weightatlas.builder.live``: started by the explorer, told and telling in lines of JSON.

The first line says what to build (``path``, ``model``, ``images``, ``layers``, ``recipes``), each further one asks for
a picture or for weights, with a number in ``ask``. When no more can come, the job in flight is finished, and this ends.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import Any

from .pipes import Inbox, Outbox
from .session import Session


def main() -> int:
    """Works until its input ends, or SIGINT or SIGTERM comes."""
    # what libraries print goes where it cannot be taken for a message
    out = Outbox(os.dup(1))
    os.dup2(2, 1)
    warnings.simplefilter("ignore")  # the overview keeps notes of all that was assumed
    inbox = Inbox(0)

    def caught(number: int, frame: Any) -> None:
        inbox.end()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, caught)
    order = inbox.first()
    if order is None:
        return 0
    try:
        Session(order, inbox, out).run()
    except KeyboardInterrupt:  # a signal that came while a build went on, which is over now
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())

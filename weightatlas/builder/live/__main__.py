"""``python -m weightatlas.builder.live``: started by the explorer, told and telling in lines of JSON.

The first line says what to build (``path``, ``model``, ``weights``, ``images``, ``layers``, ``recipes``), each further
one asks for a picture or for weights, with a number in ``ask``. When no more can come, the job in flight is finished,
and this ends.
"""

from __future__ import annotations

import sys

from .pipes import as_child
from .session import Session


def main() -> int:
    """Works until its input ends, or SIGINT or SIGTERM comes."""
    return as_child(lambda order, inbox, out: Session(order, inbox, out).run())


if __name__ == "__main__":
    sys.exit(main())

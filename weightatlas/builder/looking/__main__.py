"""``python -m weightatlas.builder.looking``: started by the explorer at the first image, answering in lines of JSON.

The first line says which network (``model``, ``hash``, ``input``, ``pixels``), each further one asks something, with a
number in ``ask``. Nothing is ever written but answers. When no more can come, this ends.
"""

from __future__ import annotations

import sys

from ..live.pipes import as_child
from .session import Session


def main() -> int:
    """Answers until its input ends, or SIGINT or SIGTERM comes."""
    return as_child(lambda order, inbox, out: Session(order, inbox, out).run())


if __name__ == "__main__":
    sys.exit(main())

"""The entry point of an image on SageMaker: `kappawatt-container serve | train`; `roles.py` says what they do."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType

__all__ = ["main"]


def main(arguments: list[str] | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Run `serve` or `train`, the one argument the platform gives; exit 1 if it fails, 2 for another argument."""
    # The kernel keeps SIGTERM from process 1 of a container until it has a handler: so this comes before all that
    # takes a moment to import.
    signal.signal(signal.SIGTERM, _stop)
    given = sys.argv[1:] if arguments is None else arguments
    if given not in (["serve"], ["train"]):
        print(f"kappawatt-container: got {' '.join(given)!r}, allowed serve or train", file=sys.stderr)
        sys.exit(2)
    from kappawatt.deploy import roles

    sys.exit(roles.serve(environ) if given == ["serve"] else roles.train(environ))


def _stop(number: int, frame: FrameType | None) -> None:
    # Not sys.exit: raised while orjson is being imported it ended in a segmentation fault, 3 times of 161. Once
    # gunicorn serves, its own handler has taken this one's place.
    os._exit(128 + number)


if __name__ == "__main__":
    main()

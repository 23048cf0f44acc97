"""The entry point of every image: `kappawatt-container serve | consume | sink | train | health`.

`roles.py` says what they do. SageMaker gives `serve` and `train`, other platforms whichever they run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType

__all__ = ["ROLES", "main"]

ROLES = ("serve", "consume", "sink", "train", "health")


def main(arguments: list[str] | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Run the role that is the one argument; exit 1 if it fails, 2 if there is no such role."""
    # The kernel keeps SIGTERM from process 1 of a container until it has a handler: so this comes before all that
    # takes a moment to import.
    signal.signal(signal.SIGTERM, _stop)
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1 or given[0] not in ROLES:
        allowed = f"{', '.join(ROLES[:-1])} or {ROLES[-1]}"
        print(f"kappawatt-container: got {' '.join(given)!r}, allowed {allowed}", file=sys.stderr)
        sys.exit(2)
    if given == ["health"]:  # asked every few seconds, so it imports next to nothing
        from kappawatt.deploy.container.health import health

        sys.exit(health(environ))
    from kappawatt.deploy.container import roles

    sys.exit(getattr(roles, given[0])(environ))


def _stop(number: int, frame: FrameType | None) -> None:
    # Not sys.exit: raised while orjson is being imported it ended in a segmentation fault, 3 times of 161. Once
    # gunicorn or a worker runs, its own handler has taken this one's place.
    os._exit(128 + number)


if __name__ == "__main__":
    main()

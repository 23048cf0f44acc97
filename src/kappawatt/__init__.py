"""Energy models as small services on a Kafka bus."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("kappawatt")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

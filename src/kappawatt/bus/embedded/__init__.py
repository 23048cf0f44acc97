"""The embedded bus: one SQLite file in WAL mode, shared by the processes of one machine.

It is the default of a fresh machine and keeps Kafka's promises at laptop scale: messages are on disk before
`publish` returns, offsets are dense per partition, groups share partitions by generation, a member that shows
no sign of life for `session_timeout` loses its partitions, and a commit of an old generation changes nothing.

file        tables, connections, what several parts ask of them
membership  who is in a group, and since when nothing was heard
consumer    positions and reading
bus         all of it, and publishing
"""

from kappawatt.bus.embedded.bus import EmbeddedBus

__all__ = ["EmbeddedBus"]

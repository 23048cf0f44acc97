"""Apache Kafka through kafka-python, the client every install has.

Three places go below its public surface, because the difference is several times the speed, or because it
says nothing there. `packing` hands whole record batches to the client's accumulator (2 us a message instead of
20 us), `unpacking` reads record batches without an object a message, and `connections` sees why a broker refuses
a connection.
"""

import warnings

with warnings.catch_warnings():
    # kafka-python reads its schemas by a call that Python 3.11 and 3.12 deprecate
    warnings.simplefilter("ignore", DeprecationWarning)
    from kappawatt.bus.kafka.bus import KafkaBus

__all__ = ["KafkaBus"]

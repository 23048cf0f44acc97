"""Apache Kafka through kafka-python, the client every install has.

Nothing here goes below its public surface: `reaching` hears from its log why a broker refuses a connection, `producer`
replaces a client that has failed a delivery, as its documentation advises, and decides what such a client leaves open.
"""

import warnings

with warnings.catch_warnings():
    # kafka-python reads its schemas by a call that Python 3.11 and 3.12 deprecate
    warnings.simplefilter("ignore", DeprecationWarning)
    from kappawatt.bus.kafka.bus import KafkaBus

__all__ = ["KafkaBus"]

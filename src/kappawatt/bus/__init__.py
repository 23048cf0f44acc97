"""The bus: transport and nothing else. One interface (`interface`), an embedded and two Kafka implementations,
promotions, and reading a span or a tail of topics. May know topics and bytes; may not know what a message means or who
answers it.
"""

from kappawatt.bus.connect import connect, connect_as
from kappawatt.bus.interface import Bus, Consumer, Outgoing, Producer, Records, Start

__all__ = ["Bus", "Consumer", "Outgoing", "Producer", "Records", "Start", "connect", "connect_as"]

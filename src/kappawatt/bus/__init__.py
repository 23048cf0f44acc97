"""The bus: one interface (`interface`), an embedded and a Kafka implementation, and the worker loop."""

from kappawatt.bus.connect import connect
from kappawatt.bus.interface import Bus, Consumer, Outgoing, Producer, Records, Start

__all__ = ["Bus", "Consumer", "Outgoing", "Producer", "Records", "Start", "connect"]

"""Apache Kafka through confluent-kafka (librdkafka): the accelerator behind the extra `fast-kafka`."""

from kappawatt.errors import SettingInvalid

try:
    import confluent_kafka  # noqa: F401
except ImportError as error:
    raise SettingInvalid(
        "kafka_client: confluent-kafka is not installed: pip install 'kappawatt[fast-kafka]'"
    ) from error

from kappawatt.bus.confluent.bus import ConfluentBus

__all__ = ["ConfluentBus"]

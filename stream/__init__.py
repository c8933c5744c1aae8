"""Kafka in, Kafka out: intake, user state, scoring, delivery, the trainer service and the command line."""

"""What millstream costs and how quick it is, measured on a real Apache Kafka: `millstream bench`."""

"""yak, the Kafka you can read."""

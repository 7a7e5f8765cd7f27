"""The bridge: one bus on many hosts, over NATS."""

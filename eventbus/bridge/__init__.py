"""The bridge: what one bus and others on other hosts tell each other over NATS."""

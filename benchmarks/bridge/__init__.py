"""From bus to bus over a nats-server: the bridge, and beside it relays by hand."""

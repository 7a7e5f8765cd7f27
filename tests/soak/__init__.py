"""The soak: random topologies and random deaths, and a ledger outside of the bus that says what must have arrived."""

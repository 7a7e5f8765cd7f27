"""For tests of programs that use a bus: what the fixtures of the pytest plugin are made of."""

"""Benchmarks of eventbus beside what people use today: real processes, the same events, the same run."""

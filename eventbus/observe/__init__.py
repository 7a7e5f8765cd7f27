"""How a bus and those who use it are watched: figures, traces, logs."""

"""Worker pools: handlers of events, run by processes that are started again when they die."""

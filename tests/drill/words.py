"""The words by which the operator tells the producer what to do."""

ORDERS = "drill.orders"
"""The system of the requests."""
SEASON, ENOUGH = "season", "enough"
"""Kinds: whether seasonal jobs are sent from now on; nothing more will come."""

"""Bridges under fire: processes that die or stand still at named moments, and a ledger that judges what arrived."""

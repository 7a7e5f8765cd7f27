"""The cases: who dies or stands still at which moment, and what is done about it; each raises what is not as it should be."""

"""The frameworks that people run jobs with, beside a `Worker`: what one costs, and what it does when a process dies."""

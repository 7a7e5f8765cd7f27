"""eventbus in the place of what a program has today, by the same calls: celery, channels, broadcast, queue."""

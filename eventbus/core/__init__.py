"""The door to C and the segments: what a process has of a bus, and how it is read."""

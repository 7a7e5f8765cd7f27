"""The kill matrix: every moment between two stores that others can see, each way to die there, everybody who passes."""

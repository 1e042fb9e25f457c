"""The sans-I/O layer: the table of endpoints, building of requests, reading of responses."""

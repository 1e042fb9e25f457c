"""The sans-I/O middle: requests built, responses read."""

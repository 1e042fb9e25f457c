"""One module for each framework, each importable alone and with an extra of its own where it needs a library."""

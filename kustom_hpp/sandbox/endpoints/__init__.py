"""The endpoints that the sandbox serves."""

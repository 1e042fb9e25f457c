"""Small shops that do all that a shop must do around a hosted page; run against the sandbox, and tested."""

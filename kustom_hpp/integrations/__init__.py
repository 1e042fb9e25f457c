"""One module for each framework. Each can be imported alone; it has an extra of its own if it needs a library."""

"""The proof of the delivery invariant on real sockets: the table of failures, and the server's record as the judge."""

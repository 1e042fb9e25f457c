"""The ledger: one journal in PostgreSQL for many machines, and the rate that they share. Needs the extra `postgres`."""

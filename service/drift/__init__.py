"""Recomputes every total and counter from charges alone and compares: with the ledger's own sums, and with Redis."""

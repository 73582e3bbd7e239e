"""Tallygate: what LLM traffic costs, and the gate in front of it."""

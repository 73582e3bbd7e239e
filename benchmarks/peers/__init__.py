"""Other libraries that price calls, beside which `make bench` puts our rating; they live in their own environment."""

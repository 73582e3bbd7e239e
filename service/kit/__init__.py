"""Small tools without a domain word in them: clock, money, ids, text, batching, pagination."""

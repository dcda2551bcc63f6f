"""Tokens: a tokenizer, text as ids, ids packed into blocks, blocks masked, and the proof that they are whole."""

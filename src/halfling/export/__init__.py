"""Export: a trained model becomes segments, a table of embeddings and a tokenizer that the engine runs."""

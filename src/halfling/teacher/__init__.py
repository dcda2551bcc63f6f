"""The teacher: its tokenizer and its weights, from the hub, from a folder, or trained here on the corpus."""

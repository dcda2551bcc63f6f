"""The service: exported models over HTTP, requests answered together, without torch or transformers installed."""

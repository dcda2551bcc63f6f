"""halfling: distil XLM-R, let easy inputs leave early, and measure that work saved is time saved."""

__version__ = "0.1.0"

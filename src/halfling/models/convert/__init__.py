"""Encoders of BERT's layout with XLM-R's vocabulary, read as XLM-R: from a folder, or from a package's 4-bit file."""

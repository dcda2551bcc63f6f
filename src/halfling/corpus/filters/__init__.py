"""What a document must be like to stay, and how it is mended first."""

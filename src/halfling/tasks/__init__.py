"""Tasks: what is asked of labelled data, where they lie, how they are read, encoded and scored."""

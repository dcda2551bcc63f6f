"""The command line: the commands of stages are derived from their declarations, each other one is a small file."""

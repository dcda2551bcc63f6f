"""Exits: the policy (where an input may leave, and how sure it must be) and the criteria of being sure."""

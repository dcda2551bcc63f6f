"""The one error that users see: a line that says what, where and what to do."""


class HalflingError(Exception):
    """Something the user can mend. The command line prints it as one line and exits with status 1."""

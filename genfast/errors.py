"""The package's one error for bad input."""


class GenfastError(ValueError):
    """What was wrong and what to do, in one sentence. The command line prints it and exits with code 2."""

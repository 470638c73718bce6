"""The package's one error for bad input."""


class GenfastError(ValueError):
    """What was wrong and what to do, in one sentence. The command line prints it and exits with code 2."""


class NotCausal(GenfastError):
    """An output reads a pixel that is drawn at the same time or later, or another image of the batch."""


class NotSupported(GenfastError):
    """A network uses an operator that the compiler cannot take apart."""

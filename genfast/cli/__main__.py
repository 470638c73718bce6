"""``python -m genfast.cli``: the same as ``genfast``."""

from genfast.cli.main import entry

entry()

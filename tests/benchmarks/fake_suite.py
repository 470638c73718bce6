"""A suite for tests: one case that is right, and one whose answer is wrong.

What is compared with what.
"""

import sys
import types


def install() -> None:
    """As the only suite."""
    import cases

    def prepare(right):
        def check():
            assert right, "1 is not 2"

        part = cases.Timing(
            lambda: sum(range(100)), {"slow": lambda: sum(range(9000)), "slower": lambda: sum(range(90000))}, 1e-9
        )
        return cases.Prepared({"forward": part}, check, lambda part, found: {"more": part})

    def make(options):
        return [
            cases.Case("fake", "right one", {"size": 3}, ("forward",), lambda: prepare(True), quick=True),
            cases.Case("fake", "wrong one", {"size": 4}, ("forward",), lambda: prepare(False)),
        ]

    module = types.ModuleType("fake", __doc__)
    module.cases = make
    sys.modules["fake"] = module
    cases.SUITES = ("fake",)

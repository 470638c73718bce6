"""What a kernel may occupy on a GPU: no spills, and the registers and shared memory that a block can have."""

SHARED_MEMORY = {"sm_80": 163 * 1024, "sm_90": 227 * 1024}  # bytes that one block may have


def assert_fits(report: dict[str, dict[str, int]], registers: int = 255) -> None:
    """``report``: sm_NN-... -> what triton_compile.report_on says of that launch."""
    for launch, used in report.items():
        assert used["local"] == 0, f"{launch} spills: {used}"
        assert used["stack"] == 0, f"{launch} spills: {used}"
        assert used["registers"] <= registers, f"{launch} takes too many registers: {used}"
        assert used["shared"] <= SHARED_MEMORY[launch[:5]], f"{launch} takes too much shared memory: {used}"

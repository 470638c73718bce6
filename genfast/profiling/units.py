"""Numbers for people."""

KIB, MIB = 1 << 10, 1 << 20


def seconds(value: float) -> str:
    """A time with 3 significant digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} us"


def size_name(size: int) -> str:
    """Bytes."""
    return f"{size / MIB:.3g} MiB" if size >= MIB else f"{size / KIB:.3g} KiB"

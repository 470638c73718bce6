"""diagonal_lstm as a scan for a GPU: lines are diagonals, slots are rows: the taps (up, left) read y - 1 and y."""

from genfast.kernels.lstm.scan import Scan, Tap


def diagonal_scan(reverse: bool) -> Scan:
    return Scan((Tap(-1, 0, starts=False), Tap(0, 1 if reverse else -1)), 1, diagonal=True, reverse=reverse)

"""row_lstm as a scan for a GPU: lines are rows, and slots are columns."""

from genfast.kernels.lstm.scan import Scan, Tap


def row_scan(taps: int) -> Scan:
    reach = taps // 2
    return Scan(tuple(Tap(-1, t - reach) for t in range(taps)), reach)

"""What features learned without labels are worth, for the table and the plot in README.md.

    genfast train autoencoder --data mnist --preset mnist -o runs/autoencoder
    genfast probe runs/autoencoder -o runs/probe
    python benchmarks/features.py runs/probe

Takes over what `genfast probe` wrote.
"""

import json
import shutil
import sys
from pathlib import Path

from harness import RESULTS, save


def main(folder: Path) -> None:
    found = json.loads((folder / "probe.json").read_text(encoding="utf-8"))
    said = (folder / "probe.md").read_text(encoding="utf-8").strip()
    print("wrote", save("features", found.pop("rows"), **found, said=said))
    print("wrote", shutil.copy(folder / "probe.png", RESULTS / "features.png"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

"""Trains the toy model in a process of its own: python processes.py FOLDER SETTINGS-AS-JSON [--resume]."""

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from genfast.training import train
from tests.training.conftest import MODEL, QUICK, toy_images

folder, settings = sys.argv[1], json.loads(sys.argv[2])
train(
    "pixelcnn",
    MODEL,
    toy_images(40),
    replace(QUICK, **settings),
    folder,
    "--resume" in sys.argv,
    held_out=toy_images(5, "valid"),
)

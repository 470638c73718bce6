"""Trains a toy model in a process of its own: python processes.py FOLDER SETTINGS-AS-JSON [--resume] [--gan]."""

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from genfast.models import GANConfig
from genfast.training import train
from tests.training.conftest import MODEL, QUICK, toy_images

GAN = GANConfig((1, 4, 5), levels=4, latent=3, channels=4, network="sngan", discriminator_steps=2, num_classes=3)
folder, settings = sys.argv[1], json.loads(sys.argv[2])
train(
    *(("gan", GAN) if "--gan" in sys.argv else ("pixelcnn", MODEL)),
    toy_images(40),
    replace(QUICK, **settings),
    folder,
    "--resume" in sys.argv,
    held_out=toy_images(5, "valid"),
)

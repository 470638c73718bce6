"""``genfast VERB ...``: find the verb, run it, and turn what goes wrong into one sentence and an exit code."""

import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from genfast.errors import GenfastError

VERBS = {
    "train": "train a model on a data set; the run folder keeps checkpoints, metrics and pictures",
    "evaluate": "how likely are held-out images, in bits/dim, or other scores; how good are generated ones",
    "sample": "draw new images from a trained model, as a picture, an animation or an array",
    "features": "the codes of images, by an autoencoder, a vae or a classifier, as an array",
    "explore": "pictures of a latent space: reconstructions, interpolations, traversals, the 2-D manifold",
    "probe": "what features are worth: a linear probe and fine-tuning with few labels, against no pretraining",
    "complete": "draw the missing part of partly known images",
    "check": "is a network causal: leaks by layer, blind spots, receptive field; of any PyTorch module",
    "profile": "where the time goes, by operator or sampler step, and how far that is from what this machine can do",
    "bench": "times against what you would otherwise run, against another revision, and how they grow with sizes",
    "info": "versions, processor, and which operators run on what",
    "demo": "train on small handwritten digits for about a minute, draw new ones, compare two samplers",
}


def usage() -> str:
    """What ``genfast --help`` prints."""
    verbs = "\n".join(f"  {verb:10}{line}" for verb, line in VERBS.items())
    return f"""\
usage: genfast VERB [options]         (genfast VERB --help tells more)

Pixel-level generative models: train them, measure them, and sample from them fast and exactly.

{verbs}

A first session:
  genfast train gated-pixelcnn --data digits --preset digits -o runs/digits
  genfast evaluate runs/digits
  genfast sample runs/digits -n 64 -o digits.png

Exit codes: 0 done, 1 not causal (genfast check), 2 bad input (one sentence on stderr says what), 130 interrupted.
GENFAST_TRACEBACK=1 shows where an error came from."""


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    verb, rest = argv[0], list(argv[1:])
    try:
        if verb not in VERBS:
            raise GenfastError(f"There is no command {verb!r}: choose one of {', '.join(VERBS)}.")
        code: int = importlib.import_module(f"genfast.cli.{verb}").main(rest) or 0
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        print(f"\nInterrupted{': ' if stop.args else ''}{stop}.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as in `genfast info | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (GenfastError, OSError) as error:
        if os.environ.get("GENFAST_TRACEBACK") == "1":
            raise
        sentence = str(error)
        if isinstance(error, OSError) and error.strerror:
            sentence = f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
        print(f"genfast {verb}: {' '.join(sentence.split())}", file=sys.stderr)
        return 2
    return code


def entry() -> NoReturn:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a ± must not stop a terminal that has none
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    entry()

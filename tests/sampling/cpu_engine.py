"""What the tests of the cpu engine share: programs made by hand, and requests of them."""

import dataclasses
from typing import Any

import numpy as np
import torch

from genfast.compiler.plan import Plan
from genfast.compiler.program import Program
from genfast.sampling import noise
from genfast.sampling.request import Request
from tests.sampling.programs import every_kind

SHAPES = [
    ((1, 5, 6), 2, "bernoulli"),
    ((1, 7, 1), 4, "categorical"),
    ((3, 4, 5), 7, "categorical"),
    ((2, 1, 6), 256, "categorical"),
]
CASES = [every_kind(i, *shape) for i, shape in enumerate(SHAPES)]
IDS = ["x".join(map(str, shape[0])) for shape in SHAPES]


def request(program: Program, n: int, first: int = 0, seed: int = 0, **options: Any) -> Request:
    channels, height, width = program.image_shape
    conditions = torch.from_numpy(np.random.default_rng(seed).standard_normal((300, 3)))[first : first + n].float()
    return Request(
        torch.zeros(n, channels, height, width, dtype=torch.uint8),
        torch.zeros(n, height * width, dtype=torch.bool),
        noise.uniforms(seed, first, n, program.image_shape),
        (conditions,),
        log_probs=torch.full((n, channels, height * width), torch.nan, dtype=torch.float64),
        params=torch.full((n, channels, height * width, program.draws[0].params.width), torch.nan),
        **options,
    )


def draw(plan: Plan, r: Request, threads: int = 1, bfloat16: bool = False) -> Request:
    from genfast.sampling.cpu import CpuEngine

    CpuEngine(plan, threads, bfloat16).start(r, poison=True).until_row(plan.program.image_shape[1] - 1)
    return r


def bits(r: Request) -> list[bytes]:
    assert r.log_probs is not None
    assert r.params is not None
    return [t.numpy().tobytes() for t in (r.images, r.log_probs, r.params)]


def part(r: Request, rows: slice) -> Request:
    assert r.log_probs is not None
    assert r.params is not None
    return dataclasses.replace(r, images=r.images[rows], log_probs=r.log_probs[rows], params=r.params[rows])

"""The measures against the numbers that the field's own tools give for the same feature arrays.

Frozen: torch-fidelity 0.4.0 (commit 5e211a9: kid_features_to_metric with 20 subsets, rng_seed 2020 and the polynomial
kernel; fid_statistics_to_metric; prc_features_to_metric with neighborhood 3) and prdc (commit e320c1d: compute_prdc
with nearest_k 5), each called on the arrays of ``features``, whose stream NumPy keeps fixed, with numpy 2.4.6.
"""

import numpy as np
import pytest

from genfast.quality import density_coverage, frechet_distance, kernel_distance, precision_recall


def features(seed: int, n: int, dim: int, shift: float, scale: float) -> np.ndarray:
    draw = np.random.RandomState(seed)
    vectors = draw.standard_normal((n, dim))
    mixed = np.eye(dim) + 0.3 * draw.standard_normal((dim, dim)) / dim**0.5
    return vectors @ mixed * scale + shift


ARRAYS = {  # generated, real
    "near": ((1, 300, 12, 0.1, 1.0), (2, 400, 12, 0.0, 1.0)),
    "far": ((3, 250, 30, 0.5, 1.5), (4, 320, 30, 0.0, 1.0)),
    "narrow": ((5, 500, 5, 0.2, 0.5), (6, 450, 5, 0.0, 1.0)),
    "singular": ((7, 40, 64, 0.1, 1.0), (8, 50, 64, 0.0, 1.0)),  # fewer vectors than dimensions
}
TORCH_FIDELITY = {  # Frechet, kernel mean, kernel standard deviation, precision, recall
    "near": (1.7699018054169713, 0.1587771787382177, 0.049274099467670196, 0.70333331823349, 0.6974999904632568),
    "far": (22.05009441639281, 1.368045139673806, 0.16338635578753852, 0.02800000086426735, 0.9750000238418579),
    "narrow": (1.4502310342150073, 0.4876542692627372, 0.1350150570816105, 0.9800000190734863, 0.3466666638851166),
    "singular": (57.27664971416223, 0.026953729903263147, 0.05732050853544982, 0.6499999761581421, 0.7799999713897705),
}
PRDC = {  # precision, recall, density, coverage
    "near": (0.79, 0.7825, 0.6826666666666668, 0.7975),
    "far": (0.04, 0.990625, 0.011200000000000002, 0.04375),
    "narrow": (0.992, 0.4177777777777778, 1.2748, 0.6666666666666666),
    "singular": (0.775, 0.82, 0.76, 0.92),
}


@pytest.fixture(params=ARRAYS)
def arrays(request: pytest.FixtureRequest) -> tuple[str, np.ndarray, np.ndarray]:
    generated, real = ARRAYS[request.param]
    return request.param, features(*generated), features(*real)


def test_torch_fidelity(arrays):
    name, generated, real = arrays
    size = min(100, len(generated) // 2)
    kernel = kernel_distance(generated, real, subsets=20, subset_size=size, seed=2020)
    manifold = precision_recall(generated, real, k=3)
    mine = frechet_distance(generated, real), kernel.value, kernel.spread, manifold.precision, manifold.recall
    np.testing.assert_allclose(mine, TORCH_FIDELITY[name], rtol=0, atol=1e-6)


def test_prdc(arrays):
    name, generated, real = arrays
    both, also = precision_recall(generated, real, k=5), density_coverage(generated, real, k=5)
    np.testing.assert_allclose(
        (both.precision, both.recall, also.density, also.coverage), PRDC[name], rtol=0, atol=1e-12
    )

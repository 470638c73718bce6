"""The worked example runs from end to end, and what it draws follows the labels."""

import re
import runpy
from pathlib import Path

import pytest
import torch

from examples import vqvae_prior

ROOT = Path(__file__).parents[2]


def test_it_draws_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "codes.png"
    codes = vqvae_prior.main(["--steps", "60", "--each", "2", "-o", str(picture)])
    said = capsys.readouterr().out
    assert picture.stat().st_size > 0
    assert codes.shape == (20, 1, 4, 4)
    assert codes.dtype == torch.int64
    assert int(codes.max()) < 300
    assert len(codes.unique()) > 5
    assert "by the cpu engine" in said
    used = re.search(r"(\d+) of 300 codes in use", said)
    assert used is not None
    assert int(used[1]) > 5


def test_the_prior_is_conditional_and_sampled_exactly() -> None:
    torch.manual_seed(0)
    prior = vqvae_prior.Prior(40, 3, width=8, layers=2).eval()
    with torch.no_grad():
        prior.out.weight.mul_(10)
    sampler = vqvae_prior.accelerated(prior, (4, 4), 40)
    one, two = (sampler.sample(8, seed=1, condition=torch.full((8,), label)) for label in (0, 2))
    assert not torch.equal(one, two)
    images = sampler.sample(3, seed=1, condition=torch.tensor([0, 2, 0]))
    assert torch.equal(images[[0, 2]], one[[0, 2]])
    assert torch.equal(images[1], two[1])


def test_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["vqvae_prior.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "examples" / "vqvae_prior.py"), run_name="__main__")
    assert "A prior over the codes of a VQ-VAE" in capsys.readouterr().out

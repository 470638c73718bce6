"""Pictures: right shades, right places, whole files or none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genfast.errors import GenfastError
from genfast.sampling import check_path, compile_sampler, grid, save_images
from genfast.sampling.pictures import GAP, GRAY


def test_grid_places_and_shades() -> None:
    images = torch.arange(3 * 2 * 3).reshape(3, 1, 2, 3) % 4
    picture = grid(images, levels=4, columns=2, scale=2)
    pixels = np.asarray(picture)
    assert picture.mode == "L"
    assert pixels.shape == (2 * (4 + GAP) + GAP, 2 * (6 + GAP) + GAP)
    for i, image in enumerate(images[:, 0]):
        y, x = GAP + i // 2 * (4 + GAP), GAP + i % 2 * (6 + GAP)
        assert (pixels[y : y + 4 : 2, x : x + 6 : 2] == image.numpy() * 85).all()
        assert (pixels[y + 1 : y + 4 : 2, x + 1 : x + 6 : 2] == image.numpy() * 85).all()
    assert (pixels[:GAP] == GRAY).all()
    assert (pixels[-4 - GAP :, -6 - GAP :] == GRAY).all()  # an empty place


def test_grid_sizes() -> None:
    assert grid(torch.zeros(64, 1, 8, 8, dtype=torch.uint8), 17).size == (8 * 66 + 2, 8 * 66 + 2)
    assert grid(torch.zeros(1, 1, 200, 100, dtype=torch.uint8), 256).size == (104, 204)
    assert grid(torch.zeros(5, 3, 32, 32, dtype=torch.uint8), 256).size == (3 * 66 + 2, 2 * 66 + 2)
    pixels = np.asarray(grid(torch.tensor([0, 1]).view(1, 1, 1, 2), 2))
    assert set(np.unique(pixels)) == {0, GRAY, 255}


def test_colours_stay_in_place() -> None:
    image = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    image[0, 0], image[0, 2] = 255, 7
    picture = grid(image, 256)
    assert picture.mode == "RGB"
    assert picture.getpixel((GAP, GAP)) == (255, 0, 7)


def test_files(tmp_path: Path, bernoulli: torch.nn.Module) -> None:
    frames: list[torch.Tensor] = []
    images = compile_sampler(bernoulli).sample(4, on_row=frames.append)  # type: ignore[arg-type]
    save_images(tmp_path / "a.png", images, 2)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(grid(images, 2)))
    save_images(str(tmp_path / "a.npz"), images, 2)
    with np.load(tmp_path / "a.npz") as arrays:
        assert np.array_equal(arrays["images"], images.numpy())
        assert arrays["images"].dtype == np.uint8
        assert arrays["levels"] == 2
    save_images(tmp_path / "a.GIF", images, 2, frames)
    with Image.open(tmp_path / "a.GIF") as gif:
        assert 1 < gif.n_frames <= 4
        gif.seek(gif.n_frames - 1)
        assert np.array_equal(np.asarray(gif.convert("L")), np.asarray(grid(images, 2)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.GIF", "a.npz", "a.png"]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    images = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(GenfastError, match=r"ends in \.png, \.npz or \.gif"):
        save_images(tmp_path / "a.jpg", images, 2)
    with pytest.raises(GenfastError, match=r"ends in \.png, \.npz or \.gif"):
        check_path("samples")
    with pytest.raises(GenfastError, match="there is no folder"):
        save_images(tmp_path / "none" / "a.png", images, 2)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(GenfastError, match="it is a folder"):
        save_images(tmp_path / "folder.png", images, 2)
    with pytest.raises(GenfastError, match="A gif needs frames"):
        save_images(tmp_path / "a.gif", images, 2)
    with pytest.raises(GenfastError, match="cannot show the levels 0 to 2"):
        save_images(tmp_path / "a.png", torch.tensor([0, 2]).view(1, 1, 1, 2), 2)
    for wrong in (torch.zeros(1, 2, 3, 3), torch.zeros(0, 1, 3, 3), torch.zeros(3, 3)):
        with pytest.raises(GenfastError, match="A picture needs images of the shape"):
            grid(wrong.to(torch.uint8), 2)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    path = tmp_path / "a.png"
    save_images(path, images, 2)
    old = path.read_bytes()

    def full(self: Image.Image, file: object, **options: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(GenfastError, match="Cannot write .*: No space left on device"):
        save_images(path, images + 1, 2)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]

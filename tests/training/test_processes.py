"""Runs that need a process of their own: killed ones, several at once, and another precision."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genfast.training import load_model, train
from genfast.training.checkpoint import find_checkpoint, read_state
from tests.training.conftest import MODEL, QUICK, toy_images
from tests.training.test_loop import assert_same_run, metrics

SCRIPT = Path(__file__).with_name("processes.py")


def start(folder, settings, *arguments, **environment):
    command = [sys.executable, str(SCRIPT), str(folder), json.dumps(settings), *arguments]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)


def here(folder, settings, resume=False):
    """The same run in this process."""
    config = replace(QUICK, **settings)
    train("pixelcnn", MODEL, toy_images(40), config, folder, resume, held_out=toy_images(5, "valid"))


@pytest.mark.slow
def test_kill_9_in_the_middle_of_an_epoch_and_resume(tmp_path):
    settings = {"epochs": 24, "checkpoint_every_steps": 3, "eval_every": 7, "log_every": 10}
    here(tmp_path / "whole", settings)
    process = start(tmp_path / "killed", settings)
    latest = tmp_path / "killed" / "checkpoints" / "latest"
    deadline = time.monotonic() + 60
    while not (latest.exists() and latest.read_text() >= "step-00000015"):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    step = read_state(find_checkpoint(tmp_path / "killed"))["step"]
    assert 15 <= step < 120
    load_model(tmp_path / "killed")
    here(tmp_path / "killed", settings, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def two(folder, settings, *arguments):
    """A run by two processes, to its end."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this PyTorch has no gloo backend")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    processes = [start(folder, settings, *arguments, RANK=str(r), LOCAL_RANK=str(r), **shared) for r in range(2)]
    for process in processes:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 0, errors


@pytest.mark.slow
def test_two_processes_follow_the_curve_of_one(tmp_path):
    """Batches of 7 images: the processes get 4 and 3, and still the gradient is the mean over 7."""
    settings = {"batch_size": 7, "log_every": 1}
    here(tmp_path / "one", settings)
    two(tmp_path / "two", settings)
    one, other = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert len(one) == len(other) > 15
    for ours, theirs in zip(one, other, strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert ours[key] == (theirs[key] if isinstance(theirs[key], str) else pytest.approx(theirs[key], rel=1e-4))


@pytest.mark.slow
def test_bfloat16(tmp_path):
    process = start(tmp_path / "bf16", {"amp": "bf16", "epochs": 20})
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0, errors
    logged = metrics(tmp_path / "bf16")
    assert logged[-1]["held_out_nats"] < 0.8 * logged[0]["train_nats"]
    assert all(p.dtype == torch.float32 for p in load_model(tmp_path / "bf16").parameters())


@pytest.mark.slow
def test_the_players_of_a_gan_in_two_processes_and_half_precision(tmp_path):
    """Each player's gradients are averaged over the processes in its own turn, so both processes keep one model."""
    two(tmp_path / "run", {"amp": "bf16", "max_steps": 6, "eval_every": 0}, "--gan")
    line = metrics(tmp_path / "run")[-1]
    assert line["step"] == 6
    assert {"train_real", "train_fake", "discriminator_gradient_norm"} <= line.keys()
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in load_model(tmp_path / "run").parameters())

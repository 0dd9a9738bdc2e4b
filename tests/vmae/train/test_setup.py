"""How a model is computed never changes what: kernels, recomputation, a failed compilation; memory errors say what to set."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, clean_environment, noise
from torch._dynamo.exc import TorchDynamoException

from vmae.errors import ConfigError, reason_of
from vmae.model.autoencoder import VideoMAE
from vmae.runtime import RuntimeConfig
from vmae.train.setup import arranged, naming_memory


@pytest.fixture
def setting(recipe):
    run = recipe.runs()[0]
    torch.manual_seed(0)
    clips, hidden = noise(run)
    return VideoMAE(run).double(), clips.double(), hidden


def loss_and_gradients(called, model, clips, hidden):
    model.zero_grad()
    loss = called(clips, hidden)
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters())]


def raises(error):
    def compiled(*args):
        raise error

    return lambda forward: compiled


@pytest.fixture(autouse=True)
def _own_compiled_code(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # else what `arranged` sets would outlive a test


@pytest.mark.parametrize(
    "given",
    [
        {"attention": "explicit"},
        {"attention": "fused"},
        {"recompute": True},
        {"share_mask_tokens": True},
        {"share_mask_tokens": True, "recompute": True},
    ],
)
def test_loss_and_gradients_stay(setting, given):
    model, clips, hidden = setting
    before = loss_and_gradients(model, model, clips, hidden)
    after = loss_and_gradients(arranged(model, RuntimeConfig(**given)), model, clips, hidden)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_a_failed_compilation_is_said_once_and_trains_on(setting, monkeypatch, capsys):
    model, clips, hidden = setting
    monkeypatch.setattr(torch, "compile", raises(TorchDynamoException("no compiler")))
    called = arranged(model, RuntimeConfig(compile=True))
    for _ in range(2):
        assert torch.equal(called(clips, hidden), model(clips, hidden))
    assert capsys.readouterr().out.count("no compiler") == 1


def test_other_errors_are_not_taken_for_a_failed_compilation(setting, monkeypatch):
    model, clips, hidden = setting
    monkeypatch.setattr(torch, "compile", raises(ValueError("shape")))
    with pytest.raises(ValueError, match="shape"):
        arranged(model, RuntimeConfig(compile=True))(clips, hidden)


@pytest.mark.parametrize(
    "given",
    [
        {"target": "raw"},
        {"target": "normalised"},
        {"target": "normalised_pooled", "loss": "smooth_l1"},
        {"loss_region": "all"},
        {"target_frames": "centre"},
        {"mask.kind": "block"},
    ],
)
@pytest.mark.parametrize("sharing", [False, True])
def test_what_is_compiled_is_one_graph(recipe, given, sharing):
    """Else Python runs between its parts in each step. No device and no code is needed to see it."""
    run = recipe.replace({f"pretrain.{key}": value for key, value in given.items()}).runs()[0]
    clips, hidden = noise(run)
    torch._dynamo.reset()
    model = VideoMAE(run)
    arranged(model, RuntimeConfig(share_mask_tokens=sharing))
    found = torch.compile(model.forward, fullgraph=True, backend="eager")(clips, hidden)
    assert found.item() == pytest.approx(model(clips, hidden).item(), rel=1e-6)


TWO_STARTS = """
import sys, torch
from torch._dynamo.utils import counters
from vmae.runtime import RuntimeConfig
from vmae.train.setup import arranged
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 1))
loss = arranged(model, RuntimeConfig(compile=True, data_root=sys.argv[1]))(torch.ones(4, 8)).sum()
loss.backward()
print(float(loss), counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"])
"""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            "backend='inductor' raised:\nNo module named 'setuptools'\n\nSet TORCH_LOGS",
            "backend='inductor' raised: No module named 'setuptools'",
        ),
        ("\n no space left \non device", "no space left"),
        ("it ends:", "it ends:"),
        ("", "OSError"),
    ],
)
def test_a_reason_is_one_line_and_what_that_announces(words, reason):
    assert reason_of(OSError(words)) == reason


@pytest.mark.parametrize(("place", "kept"), [(None, False), ("torch", False), ("mine", True)])
def test_compiled_code_is_kept_beside_the_data_unless_the_user_says_where(setting, monkeypatch, tmp_path, place, kept):
    monkeypatch.setattr(torch, "compile", lambda forward: forward)
    monkeypatch.setattr("vmae.train.setup.default_cache_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    if place is not None:  # torch 2.14 says its own place on import
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / place))
    arranged(setting[0], RuntimeConfig(compile=True, data_root=str(tmp_path / "data")))
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / (place if kept else "data/cache/compiled"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++")
def test_a_second_start_finds_what_the_first_one_compiled(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    words = [sys.executable, "-c", TWO_STARTS, str(tmp_path)]
    first, second = (
        subprocess.run(
            words, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=300, check=True
        ).stdout.split()
        for _ in range(2)
    )
    assert first[0] == second[0]
    assert int(first[2]) > 0
    assert (int(second[1]), int(second[2])) == (int(first[2]), 0)
    assert any((tmp_path / "cache" / "compiled").iterdir())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_memory_errors_name_the_part_and_the_remedy(error):
    remedy = r"backward of 8 clips.*micro_batch_size = 4 .*in the profile's \[runtime\]"
    with pytest.raises(ConfigError, match=remedy), naming_memory("backward", 8):
        raise error
    with pytest.raises(ConfigError, match="recompute"), naming_memory("forward", 1):
        raise error
    with (
        pytest.raises(ConfigError, match=r"recompute = true in the profile's \[runtime\], or take more devices") as caught,
        naming_memory("forward", 8, False),
    ):
        raise error
    assert "micro_batch_size" not in str(caught.value), "which that method refuses"
    with pytest.raises(ConfigError, match="optimiser"), naming_memory("optimiser", 8):
        raise error


def test_other_runtime_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), naming_memory("forward", 8):
        raise RuntimeError("shapes differ")

"""Memory of a ViT-B pre-training step by decoder depth at batch 16, beside the GPU memory column of the paper's Table 1a.

    python benchmarks/decoder_memory.py

On a CPU nothing is computed: tensors are fake ones (shapes without data), and what autograd keeps for the backward pass is
counted, each storage once, weights left out. To it come 16 bytes a weight: itself, its gradient, AdamW's two moments, in fp32.
Not counted: what one operator needs while it runs, the allocator's spare, libraries; so it is a lower bound, and what should
agree with the paper is the growth from depth to depth. `--device cuda` takes two real steps and prints the allocator's peak
instead. 1 GB is 1e9 bytes.
"""

import argparse
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))

from vmae.config import PretrainConfig, PretrainRun  # noqa: E402
from vmae.grid import CubeGrid  # noqa: E402
from vmae.model.autoencoder import VideoMAE  # noqa: E402
from vmae.runtime import RuntimeConfig  # noqa: E402
from vmae.sections import DecoderConfig, EmbeddedSet, EncoderConfig, OptimConfig  # noqa: E402
from vmae.train.optim import make_optimizer  # noqa: E402
from vmae.train.setup import arranged, autocast  # noqa: E402

PAPER_GB = {1: 7.9, 2: 10.2, 4: 14.7, 8: 23.7}  # Table 1a
BYTES_PER_WEIGHT = 16


def kept_bytes(model: VideoMAE, loss_of: Callable[[], torch.Tensor]) -> int:
    """Return the bytes of what the forward pass `loss_of()` keeps for the backward pass, besides weights."""
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    found: dict[int, int] = {}
    alive = []  # storages stay, so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        alive.append(storage)
        if storage._cdata not in weights:
            found[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_of()
    return sum(found.values())


def step_gb(run: PretrainRun, batch: int, device: torch.device, attention: str) -> float:
    """Return the GB of a step: counted on a CPU, the allocator's peak on CUDA."""
    grid = run.grid
    hidden = torch.zeros(batch, grid.num_cubes, dtype=torch.bool)
    hidden[:, : run.masked.mask.num_hidden(grid)] = True
    shape = (batch, 3, grid.num_frames, grid.size_px, grid.size_px)
    if device.type == "cuda":
        gc.collect()  # of the depth before
        torch.cuda.reset_peak_memory_stats()
        model = VideoMAE(run).to(device)
        arranged(model, RuntimeConfig(attention=attention))
        optimizer = make_optimizer(model, run.masked.optim)
        clips, hidden = torch.rand(shape, device=device), hidden.to(device)
        for _ in range(2):
            with autocast("bf16", device):
                loss = model(clips, hidden)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return torch.cuda.max_memory_allocated() / 1e9
    model = VideoMAE(run)
    arranged(model, RuntimeConfig(attention=attention))
    with FakeTensorMode(allow_non_fake_inputs=True), autocast("bf16", device):
        clips = torch.empty(shape)
        kept = kept_bytes(model, lambda: model(clips, hidden))
    return (kept + BYTES_PER_WEIGHT * sum(p.numel() for p in model.parameters())) / 1e9


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    words = parser.parse_args()
    print("attention | decoder blocks | ours GB | per block more | paper GB | per block more")
    for attention in ("fused", "explicit"):
        last = None
        for depth, paper in PAPER_GB.items():
            section = PretrainConfig(
                data=EmbeddedSet(), decoder=DecoderConfig(depth=depth), optim=OptimConfig(batch_size=words.batch)
            )
            run = PretrainRun(grid=CubeGrid(), encoder=EncoderConfig(), pretrain=section)
            ours = step_gb(run, words.batch, torch.device(words.device), attention)
            growth = ["", ""]
            if last is not None:
                growth = [f"{(new - old) / (depth - last[0]):.2f}" for new, old in ((ours, last[1]), (paper, last[2]))]
            print(f"{attention} | {depth} | {ours:.2f} | {growth[0]} | {paper} | {growth[1]}", flush=True)
            last = (depth, ours, paper)


if __name__ == "__main__":
    main()

"""What is known of a step without timing it: its FLOPs, the least that it needs, and the kernel that attention gets."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contestants import Step
from vmae.config import PretrainRun
from vmae.cost import flops_per_clip


def kernels(run: PretrainRun, batch: int, precision: str, device: torch.device) -> dict[str, str]:
    """Return which fused attention kernel PyTorch chooses for encoder and decoder."""
    grid, found = run.grid, {}
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    visible = grid.num_cubes - run.masked.mask.num_hidden(grid)
    for name, config, tokens in (("encoder", run.encoder, visible), ("decoder", run.masked.decoder, grid.num_cubes)):
        shape = (batch, config.num_heads, tokens, config.width // config.num_heads)
        q, k, v = (torch.empty(shape, dtype=dtype, device=device, requires_grad=True) for _ in range(3))
        found[name] = SDPBackend(torch._fused_sdp_choice(q, k, v)).name
    return found


def counted_gflops(step: Step, batch: int) -> float:
    """Return the matrix-product FLOPs of a step, per clip. The counter sees attention only where it is not one fused CPU call."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step()
    return counter.get_total_flops() / batch / 1e9


def minimum_gflops(run: PretrainRun) -> float:
    """Return the FLOPs that a clip by itself needs: no gradient of pixels, no visible query in the decoder's last block.

    Clips together need fewer: in the decoder's first block their mask tokens are the same (`vmae.model.shared`).
    """
    grid, encoder, decoder = run.grid, run.encoder, run.masked.decoder
    visible = grid.num_cubes - run.masked.mask.num_hidden(grid)
    d = decoder.width
    embed = 2 * visible * grid.cube_values * encoder.width
    unused = visible * (
        2 * (2 * d * d + 2 * d * d * decoder.mlp_ratio) + 4 * grid.num_cubes * d
    )  # query, projection, MLP, attention
    return (flops_per_clip(run) - embed - 3 * unused) / 1e9

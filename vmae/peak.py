"""What a device can do at best, measured; imports nothing that reads videos."""

import time

import torch

PEAK_SIZES = {"cpu": 1024, "cuda": 8192}
PEAK_PRODUCTS = {"cpu": 1, "cuda": 10}  # between two looks at the clock, for a GPU is idle while it is asked
PEAK_REPEATS = 5


def matrix_peak(precision: str, device: torch.device) -> float:
    """Return the GFLOP/s of large square matrix products, the best of five times: what is reached, not what is sold."""
    size, products = PEAK_SIZES[device.type], PEAK_PRODUCTS[device.type]
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    a @ b
    best = float("inf")
    for _ in range(PEAK_REPEATS):
        wait_for(device)
        started = time.perf_counter()
        for _ in range(products):
            a @ b
        wait_for(device)
        best = min(best, (time.perf_counter() - started) / products)
    return 2 * size**3 / best / 1e9


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

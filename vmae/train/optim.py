"""AdamW with the released parameter groups; linear warm-up, then the released cosine."""

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch import nn

from vmae.sections import FinetuneOptimConfig, OptimConfig

NO_DECAY = ("decoder.mask_token", "encoder.positions.table", "decoder.positions.table")


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimiser; no decay of vectors, positions and mask token; lr x layer_decay^depth-from-head if fine-tuning."""
    if isinstance(config, FinetuneOptimConfig):
        groups = param_groups_layer_decay(
            model, weight_decay=config.weight_decay, no_weight_decay_list=NO_DECAY, layer_decay=config.layer_decay
        )
    else:
        groups = param_groups_weight_decay(model, weight_decay=config.weight_decay, no_weight_decay_list=NO_DECAY)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.beta1)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)


def make_schedule(optimizer: torch.optim.Optimizer, config: OptimConfig, steps_per_epoch: int) -> CosineLRScheduler:
    """Return timm's schedule as a pure function of the step: call `step_update(step)` before each step."""
    total_steps = config.epochs * steps_per_epoch
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    return CosineLRScheduler(
        optimizer,
        t_initial=total_steps - warmup_steps,
        lr_min=config.min_lr,
        warmup_t=warmup_steps,
        warmup_lr_init=0.0,
        warmup_prefix=True,
        t_in_epochs=False,
    )

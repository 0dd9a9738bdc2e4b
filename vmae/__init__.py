"""The instrument: a small, exact and fast VideoMAE and everything a run of it needs.

Floors, lowest first; a module imports only what stands before it (tests/test_floors.py reads this list):

    errors grid identity data.embedded config recipe study runs results provenance cost
    data.manifest data.scene data.video data.sampling data.cache data.frames data.cli
    random model.masking model.cubes model.targets model.floors model.blocks model.autoencoder model.classifier
    data.augment data.clips
    train.optim train.distributed train.interrupt train.checkpoint train.progress train.setup
    train.heldout train.pretrain train.finetune train.evaluate
    job __main__

Nothing up to `data.sampling` imports torch, so planning, status and reports stay light.
"""

__version__ = "0.1.0"

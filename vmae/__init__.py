"""The instrument: a small, exact and fast VideoMAE and everything a run of it needs.

Floors, lowest first; a module imports only what stands before it (tests/test_floors.py reads this list):

    errors files sealed grid identity imported timms data.embedded sections config sizes recipe arms overrides study remarks
    results runtime allocation claim starts runs provenance cost cli
    random interrupt data.deadline data.manifest data.subset data.scene data.make
    data.decoders data.video data.guarded data.sampling data.alone data.cache data.packed data.frames data.quarantine
    data.noted data.source data.scan data.lookup data.listing data.official data.foreign data.made data.pack data.transcode
    data.cli_lists data.cli_made data.cli
    model.masking model.cubes model.targets model.floors model.attention model.shared model.blocks model.queries model.autoencoder
    model.contrast model.classifier model.formats model.importing model.describe model.cli
    data.augment data.clips data.views data.demand
    train.distributed train.sharding train.checkpoint train.progress train.optim train.setup train.mixing train.dropping
    train.graphs train.training train.heldout train.pretrain train.contrast train.finetune train.evaluate
    load peak bench bench_cli job __main__

Nothing in the first six lines imports torch, so planning, status and reports stay light.
"""

__version__ = "0.1.0"

"""Videos in: manifests, decoding, sampling, the embedded set, clips for training."""

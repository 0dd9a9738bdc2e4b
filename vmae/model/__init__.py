"""Tensors: cubes, masks, the autoencoder, the contrastive model, the classifier, targets, floors; others' checkpoints."""

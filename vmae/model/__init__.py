"""Tensors: cubes, masks, the autoencoder, the classifier, targets and floors."""

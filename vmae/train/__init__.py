"""Three training loops (masked and contrastive pre-training, fine-tuning) and an evaluator, over shared parts."""

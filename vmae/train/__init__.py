"""Two loops and an evaluator, over shared parts."""

"""Declared plans of work, and the command that carries them out: python -m sweeps."""

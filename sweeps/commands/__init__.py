"""The commands of python -m sweeps, and the logic right below them."""

"""Where runs run: profiles and launchers. `slurm` is a folder of this checkout, not the scheduler's Python binding."""

"""A SLURM of two nodes on one machine, started and stopped by the tests that need one."""

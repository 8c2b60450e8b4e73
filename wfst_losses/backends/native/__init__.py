"""The native backend: exact sums on the graph itself, compiled by numba, no lattice and no pruning."""

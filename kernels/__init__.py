"""Ground floor: exact integer kernels and float filters on flat arrays, compiled with Numba."""

"""An example of a plugin for fastconv in Cython: a gated convolution on fastconv's own kernels."""

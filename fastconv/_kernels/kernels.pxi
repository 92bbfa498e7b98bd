# The source of every kernel module: the stubs _<isa>_<dtype>.pyx hold this include alone and differ in their compiler flags.
include "simd.pxi"
include "tile.pxi"
include "window.pxi"
include "product.pxi"
include "conv.pxi"
include "local.pxi"
include "depthwise.pxi"
include "pool.pxi"

"""How each ONNX operator is converted: one function per operator, one family per file.

A function gets the builder, the node, and a value, constant or None for each input, and returns the value of its output or a
list of several.
"""

from fastconv.onnx.operators import (  # noqa: F401 - importing them fills the table
    activation,
    blocks,
    composed,
    control,
    conv,
    elementwise,
    linear,
    lists,
    loops,
    ml,
    norm,
    pool,
    recurrent,
    reduce,
    resize,
    sampling,
    scatter,
    shape,
    sizes,
)

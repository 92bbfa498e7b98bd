"""The layer is right: fastconv's own conformance suite says so, check by check."""

from petals.layers import Swish

from fastconv.testing import parametrize_with_layer_checks


@parametrize_with_layer_checks([Swish(), Swish(start=-0.5)])
def test_conformance(layer, check):
    check(layer)

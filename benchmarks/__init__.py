"""fastconv beside its alternatives, measured in one run: each module is a command, ``python -m benchmarks.<name>``.

``conv``: single convolutions against PyTorch. ``epoch``: training on the full Fashion-MNIST against PyTorch. ``import_time``:
what ``import fastconv`` costs.
"""

"""fastconv beside its alternatives, measured in one run: ``python -m benchmarks COMMAND``.

===========================  ==========================================================================================
``cases.py``                 the cases, as data: layers of real networks, with the papers that published them
``case.py``, ``groups.py``   what a case is; the groups that have a target each
``turns.py``                 the harness: processes that measure in turn
``ours.py``, ``theirs.py``   the calls in fastconv and in PyTorch; ``theirs_networks.py``: whole networks
``machine.py``               the yardsticks: peak and bandwidth
``compare.py``               the command ``cases``; ``report.py``: its tables, JSON, Markdown and chart
===========================  ==========================================================================================

Only ``theirs*.py`` and what they are called by import PyTorch.
"""

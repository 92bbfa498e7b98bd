"""fastconv beside its alternatives, measured in one run: ``python -m benchmarks COMMAND``.

===========================  ===============================================================================================
``cases.py``                 the cases, as data: layers of real networks, with the papers that published them
``case.py``, ``groups.py``   what a case is; the groups that have a target each
``turns.py``                 the harness: processes that measure in turn
``ours.py``, ``theirs.py``   the calls in fastconv and in PyTorch; ``theirs_networks.py``: whole networks
``machine.py``               the yardsticks: peak and bandwidth
``compare.py``               the command ``cases``
``report.py``, ``merge.py``  tables, JSON, Markdown and the chart (``bars.py``); the same again from the JSON of several runs
``engines.py``               frozen networks against other engines (`fastconv.engines` measures), with ``engine_networks.py``
                             and ``engine_report.py``
``calls.py``, ``sweep.py``   the fixed cost of a call; how time grows
``memory.py``, ``epoch.py``  whole training steps and epochs, in fresh processes; ``import_time.py``: the import
``frozen.py``                built-in networks as they are and frozen
``discovery.py``             the first unknown name of a layer, among hundreds of packages
``tensors.py``               arrays of ours and tensors of PyTorch
===========================  ===============================================================================================

Only ``theirs.py``, ``theirs_networks.py`` and PyTorch's side of ``epoch.py`` import PyTorch.
"""

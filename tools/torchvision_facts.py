"""Write down what torchvision calls the weights of its networks, for the tests of `fastconv.networks`.

    python tools/torchvision_facts.py [--out tests/torchvision.json]

Needs torch and torchvision. For each network that both have: the number of parameters, the number of arrays in its state dict
(without ``num_batches_tracked``), and a digest of their names and shapes (`tests/torch_names.py` says of what). The file says
which version of torchvision it was made with.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from torch_names import digest

from fastconv import networks


def torchvision_models() -> Any:
    """Return ``torchvision.models``, also where its compiled operators do not fit this torch: no network here needs them."""
    library = torch.library.Library("torchvision", "DEF")
    declared: set[str] = set()
    while True:
        try:
            import torchvision.models as models
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None or missing[1] in declared:
                raise
            declared.add(missing[1])
            library.define(f"{missing[1]}(Tensor x) -> Tensor")
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
        else:
            return models


def facts(module: Any) -> dict[str, Any]:
    """Return what the tests need to know about a network."""
    shapes = {
        name: tuple(array.shape)
        for name, array in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return {"parameters": parameters, "arrays": len(shapes), "digest": digest(shapes)}


def main() -> None:
    """Look at every network that both have, and write the file."""
    parser = argparse.ArgumentParser(description="Write down the names and shapes of torchvision's weights.")
    parser.add_argument("--out", type=Path, default=Path("tests/torchvision.json"), help="where to write")
    arguments = parser.parse_args()
    models = torchvision_models()
    with torch.device("meta"):  # names and shapes, no numbers
        found = {name: facts(getattr(models, name)()) for name in networks.names() if hasattr(models, name)}
    content = {"torchvision": importlib.metadata.version("torchvision"), "networks": found}
    arguments.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"{arguments.out}: {len(found)} networks of torchvision {content['torchvision']}")


if __name__ == "__main__":
    main()

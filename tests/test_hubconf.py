"""``torch.hub.load`` works on the repository, without an installation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = """
import sys, torch
repository = sys.argv[1]
sys.modules["densenet_convert"] = None  # not installed
built = torch.hub.load(repository, "densenet121", source="local", num_classes=3)
assert built.classifier.out_features == 3
loaded = torch.hub.load(repository, "from_pretrained", f"{repository}/fixtures/receipt-1", source="local")
assert not loaded.training and loaded.classifier.out_features == 10
"""


def test_torch_hub_loads_networks_from_the_repository(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(ROOT)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""

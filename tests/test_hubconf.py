"""``torch.hub.load`` works on the repository, without an installation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = """
import runpy, sys, torch
repository = sys.argv[1]
sys.modules["densenet_convert"] = None  # not installed
import densenet as users_own
offered = runpy.run_path(f"{repository}/hubconf.py")
offered = sorted(name for name, found in offered.items() if callable(found) and not name.startswith("_"))
assert offered == ["densenet121", "densenet161", "densenet169", "densenet201", "from_pretrained"], offered
built = torch.hub.load(repository, "densenet121", source="local", num_classes=3)
assert built.classifier.out_features == 3
loaded = torch.hub.load(repository, "from_pretrained", f"{repository}/fixtures/receipt-1", source="local")
assert not loaded.training and loaded.classifier.out_features == 10
assert type(loaded) is type(built)
assert sys.modules["densenet"] is users_own
"""


def test_torch_hub_loads_networks_beside_a_users_own_module_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "densenet.py").write_text("def densenet121(**_): return 'mine'\n")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(ROOT)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""

"""What most people would write instead: convert by a regex, compare one output, save.

Usage: python obvious.py CHECKPOINT OUTPUT DEVICE
"""

import re
import sys

import torch
import torchvision
from safetensors.torch import save_file

checkpoint, output, device = sys.argv[1:]
pattern = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)$")
state_dict = {pattern.sub(r"\1\2", k): v for k, v in torch.load(checkpoint, weights_only=True).items()}

reference = torchvision.models.densenet169()
reference.load_state_dict(state_dict)
reference.eval().to(device)
converted = torchvision.models.densenet169()
converted.load_state_dict(state_dict)
converted.eval().to(device)

x = torch.randn(4, 3, 224, 224, device=device)
with torch.no_grad():
    assert torch.allclose(converted(x), reference(x))
save_file(state_dict, output)

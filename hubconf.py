"""For ``torch.hub.load("densenet-convert/densenet-convert", "from_pretrained", "densenet169")`` and so on."""

# What has no underscore is offered by torch.hub.list.
import importlib.util as _util
import sys as _sys
from pathlib import Path as _Path

dependencies = ["torch", "safetensors", "huggingface_hub"]

_NAME = "densenet_convert_hub"  # a user's own module may be called densenet
if _NAME not in _sys.modules:
    _folder = _Path(__file__).with_name("densenet")
    _spec = _util.spec_from_file_location(
        _NAME, _folder / "__init__.py", submodule_search_locations=[str(_folder)]
    )
    _sys.modules[_NAME] = _util.module_from_spec(_spec)
    _spec.loader.exec_module(_sys.modules[_NAME])

_densenet = _sys.modules[_NAME]
densenet121 = _densenet.densenet121
densenet161 = _densenet.densenet161
densenet169 = _densenet.densenet169
densenet201 = _densenet.densenet201
from_pretrained = _densenet.DenseNet.from_pretrained

"""``export``: a converted folder to a file that another library loads, or another runtime runs."""

from __future__ import annotations

import logging

from ..errors import LayoutError
from ..folder.open import open_folder
from ..hub.fetch import local_folder
from ..records import AnyPath
from .exported import RUNTIMES, Exported

phases = logging.getLogger("densenet_convert.phases")


def export(
    folder: AnyPath,
    layout: str,
    output: AnyPath | None = None,
    *,
    dtype: str | None = None,
    dynamic_size: bool = False,
    force: bool = False,
) -> Exported:
    """Writes a converted folder as a file that another library loads, or that another runtime runs.

    Under a layout's names it holds the tensors, bit for bit: in torch's format of before 1.6, which every
    torch reads, or in Keras'.  In ONNX's format, OpenVINO's or torch.export's it holds the network as well,
    which is proven before it is written.  The file is the same on every run.

    Args:
        folder: one that was converted, here or as ``hf://USER/NAME[@REVISION]`` on the Hugging Face Hub.
        layout: name of the layout, such as ``"torchvision-dotted"``, or how only one begins: ``"keras"``;
            or ``"onnx"``, ``"openvino"`` (two files, ``.xml`` and ``.bin``) or ``"pt2"`` (torch.export).
        output: the file, whose folder is made where it is missing; by default it is named after both, in
            the working folder.
        dtype: of the weights of such a network: ``"float32"``, which is the default, or ``"float16"``.
        dynamic_size: leaves height and width of such a network's input free; else they are config.json's.
        force: replace it where it exists.

    Returns:
        The file, once it was read back and its tensors compared, or its network proven.

    Raises:
        HubError: the Hub does not have the folder, or does not give it.
        FolderError: a file of the folder is missing or was changed, or the output can't be written.
        LayoutError: there is no such layout, it can't hold this network, or a package is missing.
        ParityError: the network that would be written does not compute the folder's function.

    Examples:
        >>> dc.export("densenet121", "torchvision-dotted", "old.pth").path.name
        'old.pth'
    """
    here = local_folder(folder)
    phases.info("reading %s", here)
    written = open_folder(here)
    if layout in RUNTIMES:
        from .runtime_file import write_network

        return write_network(written, layout, output, dtype=dtype, dynamic_size=dynamic_size, force=force)
    if dtype is not None or dynamic_size:
        raise LayoutError(
            f"A layout holds the tensors as they are. `dtype=...` and `dynamic_size=...` go with "
            f"{', '.join(RUNTIMES)}: leave them out."
        )
    from .layout_file import write_layout

    return write_layout(written, layout, output, force=force)

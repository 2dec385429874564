"""Archives of ``torch.export``: written of a network, and read and run without what torch would unpickle.

``torch.export.load`` unpickles sample inputs and constants, and evaluates text of the archive (sizes and
guards).  So a stranger's archive is not given to it: its weights and its list of operators are read as data,
and the operators, which are those of a DenseNet alone, are run one after the other.

Source of the layout: ``torch/_export/serde/schema.py`` of torch 2.14.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor

from densenet_convert.densenet import DenseNet

from ...errors import ReadError, first_few
from .by_torch import FIRST_TORCH, example, quietly, require_exporter
from .reference import in_eval

MODEL = "models/model.json"
OF_SIDES = ("adaptive_avg_pool", "avg_pool", "conv", "max_pool")
# In eval mode they compute of their inputs alone.
OPERATORS = {
    f"torch.ops.aten.{name}"
    for name in (
        *(f"{name}{sides}d.default" for name in OF_SIDES for sides in (1, 2, 3)),
        "add.Tensor", "addmm.default",
        "batch_norm.default", "cat.default", "dropout.default", "flatten.using_ints", "linear.default",
        "mean.dim", "pad.default", "permute.default", "relu.default", "relu_.default", "reshape.default",
        "sigmoid.default", "softmax.int", "sym_size.int", "view.default",
    )
}  # fmt: skip
ADVICE = (
    "Export the network itself with `torch.export.export` and `torch.export.save` of torch "
    f"{FIRST_TORCH} or newer."
)


class Program(NamedTuple):
    """A program that was read as data.

    Attributes:
        nodes: operators, in the order in which they run.
        given: tensors of the state dict, by the program's names of its inputs.
        input: name of the input.
        shape: its sides; None where one is free.
        output: name of the result.
        version: of the format.
    """

    nodes: list[dict[str, Any]]
    given: dict[str, str]
    input: str
    shape: tuple[int | None, ...]
    output: str
    version: str

    def run(self, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Returns the output for an input ``[N, C, H, W]``; ``tensors`` are the state dict."""
        values: dict[str, Any] = {name: tensors[target] for name, target in self.given.items()}
        values[self.input] = x
        with torch.no_grad():
            for node in self.nodes:
                name, _, overload = node["target"].removeprefix("torch.ops.aten.").partition(".")
                run = getattr(getattr(torch.ops.aten, name), overload)
                plain = [_value(one["arg"], values) for one in node["inputs"] if one["kind"] == 1]
                named = {
                    one["name"]: _value(one["arg"], values) for one in node["inputs"] if one["kind"] != 1
                }
                (result,) = node["outputs"]
                values[_name(result)] = run(*plain, **named)
        result_of_all: Tensor = values[self.output]
        return result_of_all


def program_bytes(network: DenseNet, dtype: torch.dtype, sides: tuple[int, ...] | None) -> bytes:
    """Returns a network as an archive, whose batch is free.

    Args:
        network: on the CPU; it is left as it was.
        dtype: of the weights, the input and the logits.
        sides: height and width of the input, or as many as it has; None leaves them free.
    """
    require_exporter()
    x, free = example(network.config, dtype, sides)
    with quietly():
        program = torch.export.export(in_eval(network).to(dtype), (x,), dynamic_shapes=(free,))
        for node in program.graph.nodes:  # the rest names files of this machine
            node.meta = {name: value for name, value in node.meta.items() if name == "val"}
        program.example_inputs = None
        file = io.BytesIO()
        torch.export.save(program, file)
    return file.getvalue()


def read_program(data: bytes, path: Path | str) -> Program:
    """Reads the operators of an archive.

    Raises:
        ReadError: there is none of that kind, or it runs an operator that no rule knows.
    """
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            folder = archive.namelist()[0].partition("/")[0]
            text = json.loads(archive.read(f"{folder}/{MODEL}"))
        program = _program(text)
    except (BadZipFile, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ReadError(f"{path} holds no program of torch.export that is known here. {ADVICE}") from error
    unknown = sorted({node["target"] for node in program.nodes} - OPERATORS)
    if unknown:
        raise ReadError(f"{path} runs {first_few(unknown)}, which no rule of a DenseNet knows. {ADVICE}")
    return program


def _program(text: Any) -> Program:
    graph, signature = text["graph_module"]["graph"], text["graph_module"]["signature"]
    given, inputs = {}, []
    for one in signature["input_specs"]:
        ((kind, spec),) = one.items()
        if kind == "user_input":
            inputs.append(_name(spec["arg"]))
        else:
            given[_name({"as_tensor": spec["arg"]})] = spec[f"{kind}_name"]
    (entry,) = inputs
    (output,) = graph["outputs"]
    sides = graph["tensor_values"][entry]["sizes"]
    shape = tuple(side.get("as_int") for side in sides)
    version = text["schema_version"]
    return Program(
        graph["nodes"], given, entry, shape, _name(output), f"schema {version['major']}.{version['minor']}"
    )


def _name(argument: Any) -> str:
    ((_, value),) = argument.items()
    return str(value["name"])


def _value(argument: Any, values: Mapping[str, Any]) -> Any:
    """Returns an operator's argument: a value of the program, or what is stated."""
    ((kind, stated),) = argument.items()
    match kind:
        case "as_tensor":
            return values[stated["name"]]
        case "as_tensors":
            return [values[one["name"]] for one in stated]
        case "as_sym_int":
            return stated["as_int"] if "as_int" in stated else values[stated["as_name"]]
        case "as_sym_ints":
            return [one["as_int"] if "as_int" in one else values[one["as_name"]] for one in stated]
        case "as_none":
            return None
        case "as_int" | "as_ints" | "as_float" | "as_floats" | "as_bool" | "as_bools":
            return stated
        case "as_scalar_type":
            return None
    raise ValueError(kind)

"""The proof of an archive of torch.export: its weights by their bytes, and its output to the bit."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from math import inf
from pathlib import Path

import torch
from torch import Tensor

from densenet_convert.densenet import DenseNet

from ...errors import ParityError, ReadError, first_few, is_out_of_memory, quoted
from ...results import ExportProof, Measured
from ...source.file import parse_checkpoint
from ...tensors import dtype_name, same_bits, tensor_bytes
from ..determinism import deterministic, environment
from ..inputs import Shape
from ..layers import OUTPUT
from ..tolerance import bound, largest_error
from .program import ADVICE, Program, read_program
from .prove import require_input, shapes_of
from .reference import Reference

phases = logging.getLogger("densenet_convert.phases")


def prove_program(data: bytes, network: DenseNet, path: Path | str, *, ours: bool = False) -> ExportProof:
    """Shows that an archive of torch.export holds a network's tensors, and computes the same to the bit.

    Args:
        data: the archive.
        network: on the CPU, left as it was.
        path: for messages.
        ours: it was just made here: torch itself loads it as well, which unpickles and evaluates.

    Raises:
        ParityError: a tensor or an output is another one.
        ReadError: it can't be read, or its input is not this network's.
    """
    program = read_program(data, path)
    require_input(program.input, program.shape, network.config)
    with deterministic(torch.device("cpu")):
        phases.info("comparing its tensors with the network's")
        reference, tensors = _check_tensors(data, network, path)
        _check_norms(program, network.config.norm_eps)
        state = reference.state()
        runs: dict[str, Callable[[Tensor], Tensor]] = {"as read": lambda x: program.run(state, x)}
        if ours:
            loaded = torch.export.load(io.BytesIO(data)).module()
            runs["loaded by torch"] = lambda x: loaded(x)
        phases.info("running %d operators", len(program.nodes))
        shapes = dict(shapes_of(program.shape, network.config))
        measured = [
            _run(run, reference, name, shape, count)
            for name, run in runs.items()
            for shape, count in shapes.items()
        ]
    return ExportProof(
        runtime=f"torch {torch.__version__}",
        format=program.version,
        dtype=str(reference.dtype).removeprefix("torch."),
        tensors=tensors,
        layers=0,
        changes={},
        nearest=None,
        inputs=tuple(shapes),
        measured=tuple(measured),
        environment=environment(torch.device("cpu")),
    )


def _check_tensors(data: bytes, network: DenseNet, path: Path | str) -> tuple[Reference, int]:
    """Compares bytes; nothing is unpickled."""
    found = parse_checkpoint(data, Path(path)).tensors
    dtypes = {raw.dtype for name, raw in found.items() if name.endswith("weight")}
    if dtypes not in ({"float32"}, {"float16"}):
        raise ReadError(
            f"The weights of {path} are {first_few(sorted(dtypes))}, expected float32 or float16."
        )
    reference = Reference(network, getattr(torch, dtypes.pop()))
    expected = reference.state()
    others = sorted(found.keys() ^ expected.keys())
    if others:
        raise ReadError(f"{path} holds other names than the folder: {first_few(others)}. {ADVICE}")
    for name, tensor in expected.items():
        raw = found[name]
        same = raw.dtype == dtype_name(tensor) and raw.shape == tuple(tensor.shape)
        if not same or bytes(raw.row_major()) != tensor_bytes(tensor):
            where = name.rpartition(".")[0]
            raise ParityError(
                f"{name} is not the folder's, bit for bit.", where=where, largest=inf, advice=ADVICE
            )
    return reference, len(expected)


def _check_norms(program: Program, epsilon: float) -> None:
    """Compares what rounding may hide from the output: the epsilon of each norm, and its mode."""
    for node in program.nodes:
        stated = {one["name"]: one["arg"] for one in node["inputs"]}
        if "batch_norm" in node["target"] and (
            stated["eps"] != {"as_float": epsilon} or stated["training"] != {"as_bool": False}
        ):
            name = program.given[stated["weight"]["as_tensor"]["name"]].rpartition(".")[0]
            what = (
                f"Its eps is {stated['eps']} and training {stated['training']}, expected {epsilon} and False."
            )
            raise ParityError(what, where=name, largest=inf, advice=ADVICE)


def _run(
    run: Callable[[Tensor], Tensor], reference: Reference, name: str, shape: Shape, count: int
) -> Measured:
    inputs, own, exact = reference.logits(shape, count)
    try:
        found = torch.cat([run(x) for x in inputs])
    except Exception as error:  # torch's own have no common kind
        if is_out_of_memory(error):
            raise
        reason = quoted(" ".join(str(error).split())[:300])
        raise ParityError(f"It does not run: {reason}.", where=OUTPUT, largest=inf, advice=ADVICE) from error
    ours, theirs = (largest_error(one, exact) for one in (found, own))
    if found.shape != own.shape or not same_bits(found, own):
        raise ParityError(
            f"The output is not the network's, bit for bit: its error against float64 is {ours:.3g}, and the "
            f"network's {theirs:.3g}, on {list(shape)} ({name}).",
            where=OUTPUT,
            largest=ours,
            advice=f"{ADVICE} Leave out `run_decompositions`, which rounds otherwise.",
        )
    spread = exact.std(correction=0).item()
    return Measured(f"{name}, {list(shape)}", ours, theirs, bound(theirs, exact, own.dtype), spread)

"""OpenVINO: the one extra that is needed, and how a model is run by it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import LayoutError, is_out_of_memory
from .cut import does_not_run
from .followed import PREFIX, Unit
from .runtime import Way

TELEMETRY = "openvino_telemetry"


def openvino() -> Any:
    """Returns the module ``openvino``, which by itself would report to its makers that it was imported.

    Raises:
        LayoutError: it is not installed.
    """
    silenced = not {TELEMETRY, "openvino"} & sys.modules.keys()
    if silenced:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise LayoutError(
            "OpenVINO's format needs the package openvino. Install it with: "
            'pip install "densenet-convert[openvino]"'
        ) from error
    finally:
        if silenced:
            del sys.modules[TELEMETRY]
    return openvino


@dataclass(frozen=True)
class IrWay(Way):
    """One way in which OpenVINO runs a model, in float32: by itself it takes bfloat16 where it can."""

    provider: str = "CPU"
    level: str = ""

    def __str__(self) -> str:
        return f"{self.provider}, {self.threads or 'all'} threads"

    @property
    def without_levels(self) -> IrWay:
        """The same: it has no levels."""
        return self

    @property
    def settings(self) -> dict[str, object]:
        """The plugin's own settings."""
        return {
            "INFERENCE_PRECISION_HINT": "f32",
            "EXECUTION_MODE_HINT": "ACCURACY",
            "INFERENCE_NUM_THREADS": self.threads,
        }


class IrSession:
    """A model in OpenVINO, whose inputs are given names, in its own order."""

    def __init__(self, model: Any, way: Way, names: Sequence[str]) -> None:
        assert isinstance(way, IrWay)
        self.runs_there = True
        self._compiled = openvino().Core().compile_model(model, way.provider, way.settings)
        self._kinds = {
            name: one.element_type.to_dtype() for name, one in zip(names, model.inputs, strict=True)
        }

    def run(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Returns every output, in the model's order."""
        fed = [np.ascontiguousarray(inputs[name].numpy(), kind) for name, kind in self._kinds.items()]
        found = self._compiled(fed)
        return [torch.from_numpy(np.array(found[one])) for one in self._compiled.outputs]


class IrCut:
    """A model in which every unit takes inputs of its own.

    Args:
        model: as it was read; it is as it was when a run has ended.
        takers: the operator that takes a unit's inputs, and the place of each.
        results: what a unit gives, as OpenVINO's outputs.
        units: for messages.
        name: of the model's own input.
    """

    def __init__(
        self,
        model: Any,
        takers: Sequence[Sequence[Any]],
        results: Sequence[Any],
        units: Sequence[Unit],
        name: str,
    ) -> None:
        self.model, self.takers, self.results, self.units, self.name = model, takers, results, units, name

    def run(self, inputs: Mapping[str, Tensor], way: Way) -> Iterable[Tensor]:
        """Returns what each unit gives; where they do not run together, of one after the other.

        Raises:
            ParityError: one of them does not run.
        """
        with self._apart() as given:
            everything = {name: one for own in given for name, one in own.items()}
            try:
                return self._session(self.results, everything, way).run(inputs)
            except Exception as error:  # the runtime's own have no common kind
                if is_out_of_memory(error):
                    raise
                return self._run_singly(inputs, way, given)

    def _run_singly(
        self, inputs: Mapping[str, Tensor], way: Way, given: Sequence[Mapping[str, Any]]
    ) -> list[Tensor]:
        found = []
        for unit, result, own in zip(self.units, self.results, given, strict=True):
            try:
                found.append(self._session([result], own, way).run(inputs)[0])
            except Exception as error:
                raise does_not_run(unit, error) from error
        return found

    def _session(self, results: Sequence[Any], given: Mapping[str, Any], way: Way) -> IrSession:
        module = openvino()
        # Shapes may be computed of the model's own input.
        parameters = [*self.model.get_parameters(), *given.values()]
        model = module.Model([module.op.Result(one) for one in results], parameters, "alone")
        return IrSession(model, way, [self.name, *given])

    @contextmanager
    def _apart(self) -> Iterator[list[dict[str, Any]]]:
        """Gives every unit inputs of its own, and in the end those that it had."""
        parameter = openvino().op.Parameter
        before = [(port, port.get_source_output()) for ports in self.takers for port in ports]
        given: list[dict[str, Any]] = []
        try:
            for number, ports in enumerate(self.takers):
                own = {}
                for position, port in enumerate(ports):
                    source = port.get_source_output()
                    one = parameter(source.element_type, _with_free_sides(source.partial_shape))
                    own[f"{PREFIX}{number}.{position}"] = one
                    port.replace_source_output(one.output(0))
                given.append(own)
            yield given
        finally:
            for port, source in before:
                port.replace_source_output(source)


def _with_free_sides(shape: Any) -> Any:
    """Returns a shape of which the channels alone are fixed: the others follow from what goes before."""
    sides = [one if place == 1 else -1 for place, one in enumerate(shape)]
    return openvino().PartialShape(sides)

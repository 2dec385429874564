"""Compares the converted network with the owner's own, recorded step by step and to the bit.

In eval mode both must give the same outputs: by the same operations from the same tensors, which holds for
every input of these shapes, or else within the bound of the float64 yardstick.  In training the owner's
network may do what a DenseNet does not, such as dropout before its head: that is said, and is no error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from math import ceil, inf
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from densenet_convert.densenet import DenseNet

from ..errors import OwnNetworkError, ParityError, is_out_of_memory, quoted
from ..layout import FEATURES
from ..records import Loaded
from ..results import DIFFERS, EQUAL, UNKNOWN, EveryInput, OwnParity
from ..tensors import same_bits
from .comparisons import describe
from .determinism import deterministic
from .every_input import Judgement
from .inputs import FEWEST_LOGITS, INPUTS, LARGER, Shape, draw
from .layers import OUTPUT
from .own_runs import OwnPart, Run, operators_beyond, run_ours, run_up_to
from .own_training import judge_steps, train_both, train_exactly
from .references.own_network import OwnNetwork
from .tolerance import bound, largest_error

# Sizes of an input, by its dimensions.
EXAMPLES = {1: "320", 2: "320x256", 3: "96x96x64"}
EACH_TIME = "its code does something else each time"
WITHOUT = "Compare with a network that runs without it."
LAST_NORM = f"{FEATURES}norm5"
Size = tuple[int, ...]
T = TypeVar("T")


def compare_own(
    loaded: Loaded,
    own: OwnNetwork,
    device: torch.device,
    *,
    output: str | None = None,
    input_size: str | None = None,
) -> OwnParity:
    """Compares our network with the owner's own, in eval mode and in training.

    Args:
        loaded: our network.
        own: the owner's, which is moved to ``device``.
        device: where both run.
        output: which of several outputs is compared, or the module that is, or whose output is.
        input_size: ``"320"`` or ``"320x256"``, height first, and of volumes all three; None for the proof's
            own sizes.

    Raises:
        ParityError: it computes something else in eval mode.
        OwnNetworkError: it takes no input, or has not one output that can be compared.
    """
    sizes = _sizes(input_size, loaded.config.spatial_dims)
    with deterministic(device):
        own.network.to(device)
        both = _Both(deepcopy(loaded.model), OwnPart(loaded, own, output), device)
        in_eval = both.compare_outputs(sizes["eval"])
        shape, gradients, buffers = both.compare_training(sizes["train"])
    because = in_eval.because or gradients.because or buffers.because
    return OwnParity(
        name=own.name,
        sha256=own.sha256,
        output=output,
        around=in_eval.around,
        inputs=(("eval", in_eval.shape), *((("train", shape),) if shape else ())),
        refused=tuple(both.refused),
        every_input=EveryInput(in_eval.verdict, gradients.verdict, buffers.verdict, because),
        largest=in_eval.largest,
        bound=in_eval.bound,
    )


def _sizes(asked: str | None, dimensions: int) -> Mapping[str, Sequence[Size]]:
    """Returns the sides of the inputs to try in each mode."""
    if asked is None:
        inputs = INPUTS[dimensions][:2]
        return {mode: (tuple(sides), LARGER[dimensions]) for mode, (_, *sides) in inputs}
    parts = asked.split("x")
    if not all(part.isdecimal() for part in parts) or len(parts) not in (1, dimensions):
        raise OwnNetworkError(
            f"{quoted(asked)!r} is no size of an input, expected such as 320 or {EXAMPLES[dimensions]}."
        )
    sides = tuple(map(int, parts))
    return dict.fromkeys(("eval", "train"), (sides * dimensions if len(sides) == 1 else sides,))


class _InEval(NamedTuple):
    """The result of the outputs in eval mode, in the words of ``OwnParity``."""

    shape: Shape
    verdict: str
    because: str | None
    around: tuple[str, ...]
    largest: float
    bound: float


class _Both:
    """Both networks on one device.

    Attributes:
        refused: the inputs that the owner's network does not take, and what it raises.
    """

    def __init__(self, ours: DenseNet, theirs: OwnPart, device: torch.device) -> None:
        self.theirs, self.device = theirs, device
        dtypes = [one.dtype for one in theirs.own.network.parameters() if one.dtype.is_floating_point]
        self.dtype = dtypes[0] if dtypes else torch.float32
        self.ours = ours.to(device, self.dtype)
        self.refused: list[str] = []

    def compare_outputs(self, sizes: Sequence[Size]) -> _InEval:
        """Compares the outputs in eval mode, on the first size that the owner's network takes.

        Raises:
            ParityError, OwnNetworkError: see ``compare_own``.
        """
        with torch.no_grad():
            x, theirs = self._first_taken("eval", sizes, self.theirs.run)
            if theirs is None:
                size = EXAMPLES[self.ours.config.spatial_dims]
                way = f"`reference_input_size={size!r}`"
                raise OwnNetworkError(
                    f"{self.theirs.own.words} takes no input of the proof. {'; '.join(self.refused)}. Name a "
                    f"size that it takes, height first, such as {way}."
                )
            ours = run_ours(self.ours, x, theirs.output)
            judged = self._judge(x, ours, theirs)
            largest, limit = self._measure(x, ours, theirs, judged)
            around = self.theirs.around(x, theirs) if self.theirs.is_module else ()
        return _InEval(tuple(x.shape), judged.verdict, judged.because, around, largest, limit)

    def compare_training(self, sizes: Sequence[Size]) -> tuple[Shape, Judgement, Judgement]:
        """Compares a training step, in which nothing that differs is an error.

        Returns:
            Shape of the input, empty without one, and the verdicts on gradients and buffers.
        """
        x, steps = self._first_taken("train", sizes, lambda x: train_both(self.ours, self.theirs, x))
        if steps is None:
            left_out = Judgement(UNKNOWN, f"no training step could be compared: {self.refused[-1]}")
            return (), left_out, left_out
        judged = judge_steps(*steps, lambda: train_exactly(self.theirs, x), self.theirs.pairs)
        return tuple(x.shape), *judged

    def _first_taken(
        self, mode: str, sizes: Sequence[Size], run: Callable[[Tensor], T]
    ) -> tuple[Tensor, T | None]:
        """Returns the first input that the owner's network takes, and what came of it, or None."""
        # The yardstick of rounding needs so many images.
        images = max(2, ceil(FEWEST_LOGITS / self.theirs.width))
        x = torch.empty(0)
        for size in sizes:
            x = draw((images, self.ours.config.in_channels, *size), seed=0).to(self.device, self.dtype)
            try:
                return x, run(x)
            except Exception as error:  # whatever the owner's code raises
                if is_out_of_memory(error) or (mode == "eval" and isinstance(error, OwnNetworkError)):
                    raise
                reason = quoted(" ".join(str(error).split()))
                self.refused.append(f"{describe(x, mode)}: {type(error).__name__}: {reason}")
        return x, None

    def _judge(self, x: Tensor, ours: Run, theirs: Run) -> Judgement:
        """Judges the outputs by their names.

        Raises:
            ParityError: an operation takes another tensor or argument, or more runs around an equal network.
        """
        if self.theirs.run(x).name != theirs.name:
            return Judgement(UNKNOWN, EACH_TIME)
        judged = ours.judge(theirs)
        if judged.verdict == EQUAL:
            return judged
        if ours.recorder.unknown is None and theirs.recorder.unknown is None:
            self._refuse_more_around(x, ours, theirs)
        if judged.verdict == DIFFERS:
            raise self._other_function(judged, inf)
        return judged

    def _refuse_more_around(self, x: Tensor, ours: Run, theirs: Run) -> None:
        """Raises ParityError if the owner's network holds an equal one, and runs more around it."""
        inner = self.theirs.module_alike(x, ours)
        if inner is None and not self._is_within(x, ours, theirs):
            return
        own = self.theirs.own
        way = f"Compare what is within by `reference_output={inner!r}`." if inner else WITHOUT
        raise ParityError(
            f"{own.words} is equal to the converted one up to "
            f"{', '.join(operators_beyond(theirs.steps, ours.steps))}, which it runs around it.",
            where=OUTPUT,
            largest=inf,
            advice=way,
        )

    def _is_within(self, x: Tensor, ours: Run, theirs: Run) -> bool:
        """Whether the owner's network gives our output on the way, of its input or of what its stem takes."""
        if theirs.recorder.has_held(ours.name):
            return True
        taken, behind = self.theirs.run_behind_stem(x)
        return behind.recorder.has_held(run_ours(self.ours, taken, theirs.output).name)

    def _measure(self, x: Tensor, ours: Run, theirs: Run, judged: Judgement) -> tuple[float, float]:
        """Returns the largest difference of the outputs, and its bound where the names leave it open.

        Raises:
            ParityError: it is beyond its bound.
        """
        if same_bits(ours.output, theirs.output):
            return 0.0, 0.0
        difference = largest_error(ours.output, theirs.output.double())
        exact = self._exact(x, theirs.output)
        limit = bound(largest_error(theirs.output, exact), exact, self.dtype)
        # A bound as large as the outputs are apart tells nothing.
        within = largest_error(ours.output, exact) <= limit < exact.std(correction=0).item()
        if judged.verdict == EQUAL or judged.because == EACH_TIME or not within:
            raise self._other_function(judged, difference)
        return difference, limit

    def _exact(self, x: Tensor, theirs: Tensor) -> Tensor:
        """Returns what the owner's network gives in float64, or ours where its code does not run in that."""
        try:
            return self.theirs.in_float64().run(x.double()).output
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return run_up_to(deepcopy(self.ours).double(), x.double(), theirs)

    def _other_function(self, judged: Judgement, largest: float) -> ParityError:
        because = judged.because or "the outputs differ"
        own, final_relu = self.theirs.own, self.ours.config.final_relu
        advice = "Only what a DenseNet computes can be converted."
        if judged.where == LAST_NORM and "aten.relu" in because:
            advice = f"Say so by `final_relu={not final_relu}`."
        return ParityError(
            f"{own.words} is another function than the converted one: {because}.",
            where=judged.where or OUTPUT,
            largest=largest,
            advice=advice,
        )

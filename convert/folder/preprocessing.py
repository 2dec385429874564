"""How images are prepared: as the user says, as is found beside the source, by its layout, or assumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

from densenet_convert.densenet import DenseNetConfig
from densenet_convert.densenet.config import dimensions_text

from ..errors import ClaimError, quoted
from ..records import ORIGIN_BESIDE, ORIGIN_STATED, Numbers, Options, Size

# As timm and Pillow call them.
INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos", "box", "hamming")
STATED = ("mean", "std", "input_size", "interpolation", "crop_pct")
LARGEST_SIDE = 1 << 14
ORIGIN_LAYOUT = "layout"


def choose_preprocessing(
    layout: Mapping[str, Any], beside: Mapping[str, Any], stated: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the known fields of ``pretrained_cfg``, and whose each of them is.

    Args:
        layout: what the source's layout implies.
        beside: what a file beside the source tells, which goes before it.
        stated: what the user says, which goes before both, and before what timm tests with.
    """
    origins = {**dict.fromkeys(layout, ORIGIN_LAYOUT), **dict.fromkeys(beside, ORIGIN_BESIDE)}
    return with_stated({**layout, **beside}, origins, stated)


def with_stated(
    fields: Mapping[str, Any], origins: Mapping[str, str], stated: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns known fields, and whose they are, with what is stated in their place."""
    instead = {f"test_{name}" for name in stated}
    kept = {name: value for name, value in fields.items() if name not in instead}
    whose = {name: value for name, value in origins.items() if name not in instead}
    return {**kept, **stated}, {**whose, **dict.fromkeys(stated, ORIGIN_STATED)}


def stated_preprocessing(options: Options, config: DenseNetConfig) -> dict[str, Any]:
    """Returns the fields of ``pretrained_cfg`` that the user states, for images that a network takes.

    Raises:
        ClaimError: a value is none that an image can be prepared with, or the network takes no images.
    """
    stated: dict[str, Any] = {}
    channels = config.in_channels
    _require_images(options, config)
    if options.mean is not None:
        stated["mean"] = _for_each_channel("mean", options.mean, channels)
    if options.std is not None:
        stated["std"] = _for_each_channel("std", options.std, channels)
    if options.input_size is not None:
        stated["input_size"] = [channels, *_sides(options.input_size)]
    if options.interpolation is not None:
        stated["interpolation"] = options.interpolation
    if options.crop_pct is not None:
        stated["crop_pct"] = float(options.crop_pct)
    for name, value in stated.items():
        if not SOUND[name](value, config):
            raise ClaimError(f"{name} is {quoted(str(value))}, expected {EXPECTED[name]}.")
    return stated


def _require_images(options: Options, config: DenseNetConfig) -> None:
    asked = [name for name in STATED if getattr(options, name) is not None]
    if asked and config.spatial_dims != 2:
        raise ClaimError(
            f"{' and '.join(f'`{name}=...`' for name in asked)} "
            f"{'is' if len(asked) == 1 else 'are'} for images, and this network takes "
            f"inputs{dimensions_text(config)}, which no library prepares by these. Leave that out, and tell "
            "how inputs are prepared in a section of the card, by `card_sections=...`."
        )


def _for_each_channel(name: str, value: Numbers, channels: int) -> list[float]:
    parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value  # type: ignore[assignment]
    try:
        numbers = [float(part) for part in ([value] if isinstance(value, int | float) else parts)]
    except (TypeError, ValueError) as error:
        raise ClaimError(f"{name} is {quoted(str(value))}, expected {EXPECTED[name]}.") from error
    return numbers * channels if len(numbers) == 1 else numbers


def _sides(value: Size) -> list[int]:
    parts: Sequence[Any] = value.lower().split("x") if isinstance(value, str) else value  # type: ignore[assignment]
    try:
        sides = [int(part) for part in ([value] if isinstance(value, int) else parts)]
    except (TypeError, ValueError) as error:
        raise ClaimError(f"input_size is {quoted(str(value))}, expected {EXPECTED['input_size']}.") from error
    return sides * 2 if len(sides) == 1 else sides


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _is_mean(value: Any, config: DenseNetConfig) -> bool:
    return isinstance(value, list) and len(value) == config.in_channels and all(map(is_number, value))


def _is_deviation(value: Any, config: DenseNetConfig) -> bool:
    return _is_mean(value, config) and all(number > 0 for number in value)


def _is_size(value: Any, config: DenseNetConfig) -> bool:
    if not isinstance(value, list) or len(value) != 1 + config.spatial_dims:
        return False
    if not all(type(side) is int for side in value):
        return False
    return value[0] == config.in_channels and all(0 < side <= LARGEST_SIDE for side in value[1:])


def _is_share(value: Any, _config: DenseNetConfig) -> bool:
    return is_number(value) and 0 < value <= 1


# The fields that are taken, and the test of each value for a network.
SOUND: dict[str, Callable[[Any, DenseNetConfig], bool]] = {
    "input_size": _is_size,
    "test_input_size": _is_size,
    "interpolation": lambda value, _config: value in INTERPOLATIONS,
    "crop_pct": _is_share,
    "test_crop_pct": _is_share,
    "crop_mode": lambda value, _config: value == "center",
    "mean": _is_mean,
    "std": _is_deviation,
}
EXPECTED = {
    "input_size": "HEIGHT or HEIGHTxWIDTH, such as 320 or 320x256",
    "interpolation": f"one of {', '.join(INTERPOLATIONS)}",
    "crop_pct": "the share of the resized image that is kept, more than 0 and at most 1",
    "mean": "a number, or one for each channel of the input, such as 0.485,0.456,0.406",
    "std": "a positive number, or one for each channel of the input, such as 0.229,0.224,0.225",
}

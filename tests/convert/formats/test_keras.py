"""What Keras saves is read bit for bit, in each of its forms; whatever else HDF5 allows is refused."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from checkpoints import explanation_of

from densenet_convert.formats.archive import Archive
from densenet_convert.formats.keras import is_hdf5, is_keras, read_hdf5, read_keras
from densenet_convert.formats.raw import RawTensor
from densenet_convert.formats.recognise import read_content
from densenet_convert.formats.untrusted import MALFORMED, Budget, FormatError
from densenet_convert.layout import Reading
from densenet_convert.layouts.tables.keras_applications import KERAS_APPLICATIONS

h5py = pytest.importorskip("h5py")
np = pytest.importorskip("numpy")

# Keras is imported with torch behind it, and so in a process of its own.
WRITE = """
import warnings
warnings.simplefilter("ignore")
import h5py, keras, numpy as np
from keras.src.applications.densenet import DenseNet
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

def drawn(**more):
    model = DenseNet([1, 2, 1, 1], weights=None, input_shape=(32, 32, 3), classes=5, **more)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights([rng.random(w.shape, dtype="float32") + 0.1 for w in layer.get_weights()])
    return model

model = drawn()
np.savez("expected.npz", **{f"{l.name}/{w.name}": w.numpy() for l in model.layers for w in l.weights})
model.save("whole.h5")
model.save("zip.keras")
model.save_weights("three.weights.h5")
with h5py.File("two.h5", "w") as file:
    save_weights_to_hdf5_group(file, model)
trained = drawn(classifier_activation=None)
trained.compile("adam", "mse", metrics=["mae"])
trained.fit(np.zeros((1, 32, 32, 3)), np.zeros((1, 5)), verbose=0)
np.savez("trained.npz", **{f"{l.name}/{w.name}": w.numpy() for l in trained.layers for w in l.weights})
trained.save("trained.h5")
trained.save("trained.keras")
inner = drawn(include_top=False, pooling="avg", name="densenet121")
outer = keras.Sequential([keras.Input((32, 32, 3)), inner, keras.layers.Dense(2, name="mine")])
outer.save("nested.h5")
outer.save("nested.keras")
outer.save_weights("nested.weights.h5")
keras.config.set_dtype_policy("bfloat16")
half = drawn()
half.save_weights("half.weights.h5")
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("keras") is None:  # it can't be imported here, where it has no backend
        pytest.skip("Keras is not installed")
    folder = tmp_path_factory.mktemp("keras")
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", WRITE], cwd=folder, env=environment, check=True)
    return folder


def archive_of(data: bytes) -> Archive | None:
    """The zip, if it is one with Keras' weights in it."""
    try:
        archive = Archive(data, Budget(len(data)))
    except MALFORMED:
        return None
    return archive if is_keras(archive) else None


def read(data: bytes) -> dict[str, RawTensor]:
    budget = Budget(len(data))
    archive = archive_of(data)
    return dict((read_hdf5(data, budget) if archive is None else read_keras(archive, budget)).pairs)


def refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        read(data)


def same(found: dict[str, RawTensor], expected: Any) -> None:
    assert set(found) == set(expected)
    for name, tensor in found.items():
        assert tensor.shape == expected[name].shape
        assert tensor.dtype == expected[name].dtype
        assert bytes(tensor.row_major()) == expected[name].tobytes()


def without_names(path: Path) -> bytes:
    """As Keras wrote it before it told the names of layers."""
    file = BytesIO(path.read_bytes())
    with h5py.File(file, "r+") as opened:
        opened.visititems(lambda _, item: item.attrs.clear())
    return file.getvalue()


def repacked(path: Path, weights: bytes, config: bytes | None) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, zipfile.ZipFile(path) as old:
        archive.writestr("model.weights.h5", weights)
        if config is not None:
            archive.writestr("config.json", config or old.read("config.json"))
    return file.getvalue()


@pytest.mark.parametrize("name", ["whole.h5", "two.h5", "three.weights.h5", "zip.keras"])
def test_each_form_is_read_bit_for_bit(written: Path, name: str) -> None:
    data = (written / name).read_bytes()
    assert (is_hdf5(data), archive_of(data) is not None) == (name != "zip.keras", name == "zip.keras")
    with np.load(written / "expected.npz") as expected:
        same(read(data), expected)


@pytest.mark.parametrize("name", ["trained.h5", "trained.keras"])
def test_an_optimizer_is_left_out(written: Path, name: str) -> None:
    with np.load(written / "trained.npz") as expected:
        same(read((written / name).read_bytes()), expected)


def test_names_come_from_the_config_where_the_weights_have_none(written: Path) -> None:
    with zipfile.ZipFile(written / "zip.keras") as archive:
        archive.extract("model.weights.h5", written)
    weights = without_names(written / "model.weights.h5")
    with np.load(written / "expected.npz") as expected:
        same(read(repacked(written / "zip.keras", weights, b"")), expected)
        called = b'{"config": {"layers": [{"class_name": "Conv2D", "config": {"name": "first"}}]}}'
        assert "first/kernel" in read(repacked(written / "zip.keras", weights, called))


def test_names_come_from_the_order_where_nothing_tells_them(written: Path) -> None:
    with np.load(written / "expected.npz") as expected:
        same(read(without_names(written / "three.weights.h5")), expected)


def test_a_layer_that_no_densenet_has_keeps_the_name_of_its_place(written: Path) -> None:
    file = BytesIO(without_names(written / "three.weights.h5"))
    with h5py.File(file, "r+") as opened:
        opened["layers/embedding/vars/0"] = np.zeros((2, 2), "f4")
    found = read(file.getvalue())
    assert {"layers/embedding/0", "layers/conv2d/kernel"} <= set(found)
    assert explanation_of(KERAS_APPLICATIONS, found).problems


@pytest.mark.parametrize("name", ["nested.h5", "nested.keras", "nested.weights.h5"])
def test_a_model_within_a_model_stands_before_the_names(written: Path, name: str) -> None:
    found = read((written / name).read_bytes())
    with np.load(written / "expected.npz") as expected:
        inside = {name: tensor for name, tensor in found.items() if name.startswith("densenet121/")}
        assert {n.removeprefix("densenet121/") for n in inside} == {n for n in expected if "predict" not in n}
        assert set(found) - set(inside) == {"mine/kernel", "mine/bias"}
    layout = Reading(KERAS_APPLICATIONS, "densenet121/", only=True)
    assert not explanation_of(layout, found).problems


def test_bfloat16_is_read(written: Path) -> None:
    found = read((written / "half.weights.h5").read_bytes())
    assert {tensor.dtype for tensor in found.values()} == {"bfloat16"}
    assert {tensor.nbytes for tensor in found.values()} > {64 * 2}


def test_the_layout_explains_every_name(written: Path) -> None:
    explained = explanation_of(KERAS_APPLICATIONS, read((written / "whole.h5").read_bytes()))
    assert not explained.problems
    assert not explained.dropped
    assert explained.targets["conv3_block2_0_bn/gamma"] == "features.denseblock2.denselayer2.norm1.weight"
    assert explained.targets["pool4_conv/kernel"] == "features.transition3.conv.weight"
    assert explained.axes["conv1_conv/kernel"] == (3, 2, 0, 1)
    assert explained.axes["predictions/kernel"] == (1, 0)


def hdf5(fill: Callable[[Any], object], **how: Any) -> bytes:
    file = BytesIO()
    with h5py.File(file, "w", **how) as opened:
        fill(opened)
    return file.getvalue()


def legacy(fill: Callable[[Any], object] = lambda _: None, weights: str = "conv1/conv/kernel:0") -> bytes:
    """A layer as TensorFlow 1 wrote it, and what a test adds to it."""

    def both(file: Any) -> None:
        # A long list is in several attributes.
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [b"input_1"], [b"conv1/conv"]
        file.create_group("input_1").attrs["weight_names"] = np.zeros(0, "S1")
        layer = file.create_group("conv1/conv")
        layer.attrs["weight_names"] = [weights.encode()]
        fill(layer)
        if weights not in layer:
            layer[weights] = np.arange(4, dtype=">f4").reshape(2, 2)

    return hdf5(both)


@pytest.mark.parametrize("weights", ["conv1/conv/kernel:0", "conv1_3/conv/kernel:0", "kernel"])
def test_what_tensorflow_put_around_a_name_is_stripped(weights: str) -> None:
    (item,) = read(legacy(weights=weights)).items()
    assert item[0] == "conv1/conv/kernel"
    assert bytes(item[1].row_major()) == np.arange(4, dtype="=f4").tobytes()
    assert explanation_of(KERAS_APPLICATIONS, ["conv1/conv/kernel"]).targets == {
        "conv1/conv/kernel": "features.conv0.weight"
    }


ARRAY = "conv1/conv/kernel:0"
FOUR = np.zeros(4, "f4")


def virtual(layer: Any) -> None:
    source = h5py.VirtualSource("other.h5", "data", (4,))
    mapped = h5py.VirtualLayout((4,), "f4")
    mapped[:] = source
    layer.create_virtual_dataset(ARRAY, mapped)


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (lambda g: g.create_dataset(ARRAY, data=FOUR, chunks=(2,)), "not stored in one piece"),
        (lambda g: g.create_dataset(ARRAY, shape=(1 << 40,), dtype="f4", compression="gzip"), "a filter"),
        (lambda g: g.create_dataset(ARRAY, shape=(1 << 40,), dtype="f4"), "was never written"),
        (lambda g: g.create_dataset(ARRAY, shape=(4,), dtype="f4", external="/etc/passwd"), "in other files"),
        (virtual, "not stored in one piece"),
        (lambda g: g.create_dataset(ARRAY, data=[b"a", b"b"], dtype=h5py.string_dtype()), "no plain numbers"),
        (lambda g: g.create_dataset(ARRAY, data=[b"a", b"b"], dtype="S4"), "no plain numbers"),
        (lambda g: g.create_dataset(ARRAY, data=np.zeros(4, "c8")), "no plain numbers"),
        (lambda g: g.create_dataset(ARRAY, data=np.zeros(4, bool)), "no plain numbers"),
        (lambda g: g.create_dataset(ARRAY, data=np.zeros(4, "V4")), "no plain numbers"),
        (lambda g: g.create_dataset(ARRAY, (4,), dtype=h5py.vlen_dtype("f4")), "no plain numbers"),
        (lambda g: g.create_dataset(ARRAY, data=np.array([g.ref], h5py.ref_dtype)), "no plain numbers"),
        (lambda g: g.create_dataset(ARRAY, data=h5py.Empty("f4")), "no shape|does not|the form"),
        (lambda g: g.__setitem__(ARRAY, h5py.SoftLink("/input_1")), "a link"),
        (lambda g: g.__setitem__("more", h5py.ExternalLink("other.h5", "/")), "newer form|a link"),
        (lambda g: g.__setitem__("more", g), "is there twice, or too deep"),
        (lambda g: g.__setitem__("more", g.file), "is there twice, or too deep"),
        (lambda g: g.__setitem__("more", FOUR), "1 arrays that it does not list, such as 'conv1/conv/more'"),
        (lambda g: g.attrs.__setitem__("weight_names", [b"bias"]), "not there"),
        (lambda g: g.attrs.__setitem__("weight_names", [ARRAY.encode()] * 2), "was listed before"),
        (lambda g: g.attrs.__setitem__("weight_names", FOUR), "no text"),
        (lambda g: g.attrs.__setitem__("weight_names", np.array([g.ref], h5py.ref_dtype)), "no text"),
        (lambda g: g.file.attrs.__setitem__("layer_names0", [b"../conv1"]), "not there"),
        (lambda g: g.file.attrs.__setitem__("layer_names0", ["\u00e9" * 5000]), "not there"),
    ],
)
def test_what_keras_does_not_write_is_refused(fill: Callable[[Any], object], reason: str) -> None:
    refused(legacy(fill), reason)


@pytest.mark.parametrize("how", [{"libver": "latest"}, {"track_order": True}])
def test_a_newer_form_is_refused_with_advice(how: dict[str, Any]) -> None:
    refused(hdf5(lambda file: file.create_group("layers"), **how), "newer form.*Load it with Keras")


def test_a_file_without_weights_is_refused() -> None:
    refused(hdf5(lambda file: file.create_group("layers")), "without weights of Keras")
    refused(hdf5(lambda file: file.__setitem__("data", FOUR)), "Keras' weights lie elsewhere")


def test_groups_too_deep_are_refused() -> None:
    refused(hdf5(lambda file: file.create_group("/".join("a" * 5000))), "is there twice, or too deep")


def test_many_groups_take_no_more_than_the_budget() -> None:
    data = hdf5(lambda file: [file.create_group(str(n)) for n in range(100)])
    budget = Budget(0)
    budget.left = 10_000
    with pytest.raises(FormatError, match="more memory"):
        read_hdf5(data, budget)


def test_a_file_cut_off_or_with_something_behind_it_is_refused() -> None:
    data = legacy()
    refused(data + b"\0", "something follows")
    for length in range(0, len(data), 97):
        with pytest.raises(FormatError):
            read_hdf5(data[:length], Budget(length))


@pytest.mark.parametrize("config", [b"[]", b"{", b'{"config": {"layers": [1]}}', b"[" * 99_999, b"\xff"])
def test_a_config_that_is_none_is_refused(written: Path, config: bytes) -> None:
    weights = (written / "three.weights.h5").read_bytes()
    refused(repacked(written / "zip.keras", weights, config), "config.json is not what Keras writes")


def test_a_zip_without_weights_is_not_taken_for_keras() -> None:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", "{}")
    assert archive_of(file.getvalue()) is None
    with pytest.raises(FormatError, match="it is a zip, but not one that torch.save wrote"):
        read_content(file.getvalue())
    with pytest.raises(FormatError, match="does not end with its directory"):
        read_content(file.getvalue()[:-1])
    assert not is_hdf5(b"\x89HDF")


def test_damage_is_read_or_refused_and_takes_no_time(written: Path) -> None:
    """Where a file of Keras has structure: in its groups, headers, heaps and attributes."""
    rng = random.Random(0)
    for name in ("two.h5", "three.weights.h5"):
        sound = (written / name).read_bytes()
        parts = [
            match.start() for match in re.finditer(rb"TREE|SNOD|HEAP|GCOL|\x01\x00.\x00\x01\x00{3}", sound)
        ]
        for _ in range(1000):
            data = bytearray(sound)
            for _ in range(rng.choice([1, 1, 3])):
                at = min(rng.choice(parts) + rng.randrange(200), len(data) - 8)
                if rng.random() < 0.5:
                    data[at] ^= 1 << rng.randrange(8)
                else:
                    number = rng.choice([0, rng.choice(parts), len(data), (1 << 64) - 1])
                    data[at // 8 * 8 : at // 8 * 8 + 8] = number.to_bytes(8, "little")
            start = time.monotonic()
            try:
                for tensor in read(bytes(data)).values():
                    assert tensor.nbytes <= len(data)
            except FormatError:
                pass
            assert time.monotonic() - start < 5


def test_reading_needs_neither_keras_nor_h5py() -> None:
    code = (
        "import sys; from densenet_convert.formats import keras; "
        "assert not {'torch', 'h5py', 'keras', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

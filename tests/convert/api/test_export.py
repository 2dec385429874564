"""There and back: what was converted can be written as its source, or as another library has it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torchvision
from checkpoints import SMALL, in_2017_names, in_names_of, save, state_dict_of
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import densenet_convert as dc
from densenet_convert.api import exported
from densenet_convert.cli import main
from densenet_convert.densenet import ARCHITECTURES, DenseNetConfig
from densenet_convert.errors import ConvertError, FolderError, LayoutError
from densenet_convert.layouts import BUILT_IN
from densenet_convert.source.read import read_checkpoint

# What is written; what is not is refused by a test of its own.
NAMES = [layout.name for layout in BUILT_IN if layout.export_format and 2 in layout.dimensions]
FOUR_BLOCKS = ("numbered", "numbered-dotted", "numbered-timm")
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def equal(file: dc.Exported, expected: dict[str, torch.Tensor]) -> None:
    path = file.path
    ours = path.suffix in (".h5", ".pdparams")
    found = read_checkpoint(path).tensors if ours else torch.load(path, weights_only=True)
    assert found.keys() == expected.keys()
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
        for name, tensor in expected.items()
    )


configs = st.builds(
    DenseNetConfig,
    growth_rate=st.integers(1, 4),
    block_config=st.lists(st.integers(1, 3), min_size=2, max_size=4).map(tuple),
    num_init_features=st.integers(4, 8).map(lambda n: 2 * n),
    bn_size=st.integers(1, 3),
    num_classes=st.integers(0, 4),
    in_channels=st.integers(1, 4),
)


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=configs, seed=st.integers(0, 99))
@pytest.mark.parametrize("layout", NAMES)
@pytest.mark.usefixtures("here")
def test_every_layout_there_and_back_is_the_source_bit_for_bit(
    layout: str, config: DenseNetConfig, seed: int
) -> None:
    if layout == "keras-applications":
        pytest.importorskip("h5py", reason="h5py is not installed")
    if layout in FOUR_BLOCKS:
        config = replace(config, block_config=(1, *config.block_config, 1, 1)[:4])
    if layout == "timm-features":
        config = replace(config, num_classes=0)
    state = in_names_of(layout, state_dict_of(config, seed=seed))
    extra = {"op_threshs": torch.rand(3)} if layout == "torchxrayvision" else {}
    # Whether it runs before a head is asked of a sequence of somebody's own.
    options = {"final_relu": True} if layout in FOUR_BLOCKS else {}
    dc.convert(save({**state, **extra}, Path("old.pth")), "new", force=True, **options)
    equal(dc.export("new", layout, force=True), state)


@pytest.mark.usefixtures("here")
def test_what_a_library_would_not_take_is_refused() -> None:
    dc.convert(save(state_dict_of(), Path("old.pth")), "new")
    with pytest.raises(LayoutError, match="densenet-keras is read, and not written"):
        dc.export("new", "densenet-keras")
    with pytest.raises(LayoutError, match="timm-features has no head, and this one has 5 classes"):
        dc.export("new", "timm-features")
    with pytest.raises(LayoutError, match=r"paddleclas is not written to \.pth files"):
        dc.export("new", "paddleclas", "x.pth")


@pytest.mark.usefixtures("here")
def test_paddle_s_file_is_a_pickle_of_arrays_that_numpy_reads() -> None:
    state = state_dict_of()
    dc.convert(save(state, Path("old.pth")), "new")
    path = dc.export("new", "paddleclas").path
    assert path.name == "new-paddleclas.pdparams"
    found, expected = pickle.loads(path.read_bytes()), in_names_of("paddleclas", state)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.numpy().dtype
        assert (found[name] == tensor.numpy()).all()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_kept(dtype: torch.dtype) -> None:
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state_dict_of().items()}
    dc.convert(save(in_names_of("monai", state), Path("old.pth")), "new")
    equal(dc.export("new", "torchvision-dotted"), in_2017_names(state))
    equal(dc.export("new", "monai"), in_names_of("monai", state))


@pytest.mark.usefixtures("here")
def test_torchvision_s_own_loader_takes_the_dotted_file(monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_dict_of(ARCHITECTURES["densenet121"])
    dc.convert(save(state, Path("old.pth")), "new")
    Path("hub/checkpoints").mkdir(parents=True)
    dc.export("new", "torchvision-dotted", "hub/checkpoints/densenet121-a639ec97.pth")
    monkeypatch.setattr(torch.hub, "_hub_dir", "hub")
    network = torchvision.models.densenet121(weights="IMAGENET1K_V1")
    assert all(
        torch.equal(network.state_dict()[name], tensor)
        for name, tensor in state.items()
        if "tracked" not in name
    )


@pytest.mark.usefixtures("here")
def test_monai_s_network_takes_its_file() -> None:
    nets = pytest.importorskip("monai.networks.nets", reason="MONAI is not installed")
    dc.convert(save(state_dict_of(ARCHITECTURES["densenet121"]), Path("old.pth")), "new")
    network = nets.DenseNet121(spatial_dims=2, in_channels=3, out_channels=1000)
    network.load_state_dict(torch.load(dc.export("new", "monai"), weights_only=True))


KERAS = """
import sys, keras, numpy
from pathlib import Path
from densenet_convert.source.read import read_checkpoint
network = keras.applications.DenseNet121(weights=None, classes=3, classifier_activation=None)
network.load_weights(sys.argv[1])
tensors = read_checkpoint(Path(sys.argv[1])).tensors
for layer in network.layers:
    for variable in layer.weights:
        expected = tensors[f"{layer.name}/{variable.name}"].numpy()
        assert numpy.array_equal(keras.ops.convert_to_numpy(variable), expected), variable.path
print("the same")
"""


@pytest.mark.usefixtures("here")
@pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed")
def test_keras_loads_its_file() -> None:
    config = replace(ARCHITECTURES["densenet121"], num_classes=3)
    dc.convert(save(in_names_of("keras-applications", state_dict_of(config)), Path("old.pth")), "new")
    path = dc.export("new", "keras-applications").path
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    command = [sys.executable, "-c", KERAS, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.stdout == "the same\n", done.stderr


@pytest.mark.usefixtures("here")
def test_a_network_of_another_epsilon_is_not_written_as_what_it_is_not() -> None:
    dc.convert(save(in_names_of("keras-applications", state_dict_of()), Path("old.pth")), "new")
    with pytest.raises(
        LayoutError, match="of monai has norm_eps 1e-05, and this one 1.001e-05.*go back to keras"
    ):
        dc.export("new", "monai")


@pytest.mark.usefixtures("here")
def test_two_exports_are_the_same_bytes_and_nothing_is_overwritten() -> None:
    dc.convert(save(in_2017_names(state_dict_of()), Path("old.pth")), "new")
    one, other = (dc.export("new", "monai", f"{i}.pth").path.read_bytes() for i in (1, 2))
    assert one == other
    with pytest.raises(FolderError, match="exists and is left alone"):
        dc.export("new", "monai", "1.pth")
    with pytest.raises(LayoutError, match="There is no layout 'caffe', expected one of torchvision"):
        dc.export("new", "caffe")
    assert dc.export("new", "monai", "made/1.pth").path.read_bytes() == one
    with pytest.raises(LayoutError, match=r"monai is not written to \.safetensors files. .* ends in \.pth"):
        dc.export("new", "monai", "1.safetensors")
    with pytest.raises(FolderError, match="can't be written"):
        dc.export("new", "monai", "1.pth/1.pth")
    Path("new/config.json").write_text("{}")
    with pytest.raises(ConvertError, match="config.json was changed"):
        dc.export("new", "monai", "3.pth")


@pytest.mark.usefixtures("here")
def test_an_interrupted_export_leaves_nothing_and_what_came_meanwhile_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dc.convert(save(in_2017_names(state_dict_of()), Path("old.pth")), "new")
    before = sorted(Path().iterdir())

    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exported, "sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dc.export("new", "monai", "1.pth")
    assert sorted(Path().iterdir()) == before
    monkeypatch.setattr(exported, "sync", lambda _: Path("1.pth").write_text("another's"))
    with pytest.raises(FolderError, match="exists and is left alone"):
        dc.export("new", "monai", "1.pth")
    assert Path("1.pth").read_text() == "another's"


@pytest.mark.usefixtures("here")
def test_counters_that_a_library_does_not_take_are_left_out_with_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dc.convert(save(state_dict_of(), Path("today.pth")), "new", device="cpu")
    dc.export("new", "monai")
    assert not caplog.messages
    dc.export("new", "torchvision-dotted")
    assert caplog.messages == [
        "21 num_batches_tracked are left out: the library of torchvision-dotted takes none."
    ]


@pytest.mark.usefixtures("here")
def test_a_layout_is_named_by_the_word_it_begins_with() -> None:
    pytest.importorskip("h5py")
    dc.convert(save(in_names_of("keras-applications", state_dict_of()), Path("old.pth")), "new", device="cpu")
    assert dc.export("new", "keras").path.name == "new-keras-applications.h5"
    with pytest.raises(LayoutError, match="another `output=...` that ends in .h5"):
        dc.export("new", "keras", "x.weights.h5")


@pytest.mark.usefixtures("here")
def test_the_command_prints_the_file() -> None:
    dc.convert(save(in_2017_names(state_dict_of(replace(SMALL, num_classes=2))), Path("old.pth")), "new")
    done = CliRunner().invoke(main, ["export", "new", "--to", "torchvision-dotted"])
    assert (done.exit_code, done.stdout) == (0, "new-torchvision-dotted.pth\n")
    again = CliRunner().invoke(main, ["export", "new", "--to", "torchvision-dotted"])
    assert again.exit_code == 1
    assert again.stderr.startswith("error: ")

"""Does max pooling in the transitions change accuracy?  And what if it is exchanged after training?

Usage: python benchmarks/transition_pooling.py [--runs SEEDS] [--device cpu|cuda] [--output FILE.json]

Trains a small DenseNet on scikit-learn's digits (1,797 images of 8x8; 1,347 to train on, 450 to test
on), with average and with max pooling in the transitions.  Of each seed both networks have the same
initial weights, the same split and the same order of batches, so the accuracies are compared in pairs.

Then each network trained with average pooling is given max pooling, without a change to any weight,
and goes through densenet-convert's own proof, whose message is kept.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import arguments, report
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from densenet_convert.densenet import DenseNet, DenseNetConfig
from densenet_convert.errors import ParityError
from densenet_convert.layouts.network import identify_network
from densenet_convert.layouts.rename import rename_tensors
from densenet_convert.proof.load import load_model
from densenet_convert.proof.references.reference import load_reference
from densenet_convert.proof.verification import verify_model
from densenet_convert.records import Options
from densenet_convert.source.read import read_checkpoint

SMALL = DenseNetConfig(
    growth_rate=12, block_config=(3, 3, 3), num_init_features=24, in_channels=1, num_classes=10
)
POOLINGS = ("avg", "max")
EPOCHS, BATCH, RATE = 20, 64, 0.1

Images = tuple[Tensor, Tensor]


def digits(seed: int, device: str) -> tuple[Images, Images]:
    """The images to train on and to test on, ``[N, 1, 32, 32]`` in float32, and their classes."""
    found = load_digits()
    pixels = torch.tensor(found.images, dtype=torch.float32).div(8).sub(1)[:, None]
    x = interpolate(pixels, size=32, mode="bilinear")  # the stem alone takes a quarter of the side
    y = torch.tensor(found.target)
    train, test = train_test_split(range(len(y)), test_size=450, stratify=y, random_state=seed)
    return (x[train].to(device), y[train].to(device)), (x[test].to(device), y[test].to(device))


def trained(pooling: str, images: Images, seed: int, device: str) -> DenseNet:
    """A network that is trained from the initial weights that belong to ``seed``."""
    x, y = images
    torch.manual_seed(seed)
    network = DenseNet(replace(SMALL, transition_pool=pooling)).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9, nesterov=True, weight_decay=1e-4)
    batches = math.ceil(len(x) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * batches)
    order = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for picked in torch.randperm(len(x), generator=order).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(network(x[picked]), y[picked]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: DenseNet, images: Images) -> float:
    x, y = images
    return (network(x).argmax(1) == y).double().mean().item()


def exchanged(network: DenseNet) -> DenseNet:
    """The same weights, with max pooling in the transitions."""
    other = DenseNet(replace(network.config, transition_pool="max")).to(next(network.parameters()).device)
    other.load_state_dict(network.state_dict())
    return other.eval()


def verdict(network: DenseNet) -> str:
    """What the proof says of a checkpoint of ``network`` whose pooling was exchanged."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "digits.pth")
        torch.save({name: tensor.cpu() for name, tensor in network.state_dict().items()}, path)
        checkpoint = read_checkpoint(path)
        found = identify_network(checkpoint, Options())
        renamed, config = rename_tensors(checkpoint, found.reading), found.config
        prove = partial(verify_model, device=torch.device("cpu"))
        prove(load_model(renamed, config), load_reference(checkpoint, found.reading, config))
        wrong = replace(config, transition_pool="max")
        try:
            prove(load_model(renamed, wrong), load_reference(checkpoint, found.reading, config))
        except ParityError as error:
            return str(error)
    raise SystemExit("The proof did not notice that the pooling was exchanged.")


def summary(values: list[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "standard_deviation": statistics.stdev(values)}


def main() -> None:
    asked = arguments(__doc__, runs=20)
    found: dict[str, list[float]] = {"avg": [], "max": [], "avg, then max": []}
    for seed in range(asked.runs):
        train, test = digits(seed, asked.device)
        for pooling in POOLINGS:
            network = trained(pooling, train, seed, asked.device)
            found[pooling].append(accuracy(network, test))
            if pooling == "avg":
                found["avg, then max"].append(accuracy(exchanged(network), test))
                example = network
    differences = [b - a for a, b in zip(found["avg"], found["max"], strict=True)]
    result: dict[str, object] = {
        "accuracy": {name: {**summary(values), "values": values} for name, values in found.items()},
        "max_minus_avg": {
            **summary(differences),
            "standard_error": statistics.stdev(differences) / math.sqrt(len(differences)),
        },
        "verifier": verdict(example),
    }
    report(result, asked)


if __name__ == "__main__":
    main()

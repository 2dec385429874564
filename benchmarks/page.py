"""Makes docs/performance.md and its plots from benchmarks/results, and of docs/gpu.md what is between marks.

Usage: python benchmarks/page.py
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot

ROOT = Path(__file__).parents[1]
RESULTS, DOCS = ROOT / "benchmarks" / "results", ROOT / "docs"
OURS, THEIRS = "#1f77b4", "#9aa0a6"
DARK = "<style>@media (prefers-color-scheme: dark) { svg { filter: invert(1) hue-rotate(180deg); } }</style>"

Result = Mapping[str, Any]

HEAD = """# Performance

Made from `benchmarks/results/` by `make bench`, which runs every benchmark.  Each compares with a peer in
the same run, in alternation; ratios are of medians.  [On a GPU](gpu.md) has what was measured there.
"""


# Of the recorded run.
ADVICE = """**On a CPU take ONNX in onnxruntime**: it needs about a third of eager torch's time and no
compilation, at the same error; OpenVINO in float32 is as fast, and takes more memory.  Where the
processor has bfloat16, OpenVINO's default precision is two to four times as fast again, at an error ten
thousand times as large: compare it on your own images first."""


def load(name: str) -> Result:
    result: Result = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def ran(result: Result) -> str:
    """The command, the machine and the versions."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"`{result['command']}`; {result['machine']}; {versions}."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bars(name: str, unit: str, values: Mapping[str, float], ours: Sequence[str]) -> str:
    """Draws horizontal bars, ours in another colour, and returns the line that shows them."""
    figure, axes = pyplot.subplots(figsize=(7, 0.45 * len(values) + 0.9), layout="constrained")
    labels = list(values)
    colours = [OURS if label in ours else THEIRS for label in labels]
    drawn = axes.barh(labels, list(values.values()), color=colours)
    axes.bar_label(drawn, fmt="{:,.4g}", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    return saved(figure, name, f"{unit}: " + ", ".join(f"{k} {v:,.4g}" for k, v in values.items()))


def saved(figure: Any, name: str, description: str) -> str:
    """Draws without a background, and in inverted colours where the page is dark."""
    path = DOCS / "plots" / f"{name}.svg"
    path.parent.mkdir(exist_ok=True)
    drawn = StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None}, transparent=True)
    pyplot.close(figure)
    path.write_text(drawn.getvalue().replace("<defs>", f"{DARK}\n <defs>", 1))
    return f"![{description}](plots/{path.name})"


def conversion() -> str:
    result, many = load("convert"), load("many")
    seconds, memory, ratios = result["seconds"], result["peak_mib"], result["ratios"]
    rows = [[name, f"{wall:.2f} s", f"{memory[name]:,.0f} MiB"] for name, wall in seconds.items()]
    compared = {"densenet-convert": seconds["densenet-convert"], "obvious script": seconds["obvious script"]}
    further = many["further_checkpoint_seconds"], many["seconds"]["obvious"]
    drawn = bars(
        "converting", "seconds", {**compared, "imports alone": seconds["imports alone"]}, ["densenet-convert"]
    )
    return f"""## Converting

DenseNet-169, from one file of 2017, with every proof, against the script that most people would write
(`benchmarks/obvious.py`: load, rename by a regex, two networks, one comparison, save), as whole processes.

{drawn}

{table(["process", "wall time", "peak memory"], rows)}

{table(["ratio", ""], [[name, f"{value:.2f}"] for name, value in ratios.items()])}

{ran(result)}

**A further checkpoint** in a run over many takes {further[0]:.2f} s, {further[0] / further[1]:.2f}
of what the obvious script takes for one ({further[1]:.2f} s).  {ran(many)}
"""


def reporting() -> str:
    result = load("report")
    seconds, used = result["seconds"], result["processor_seconds"]
    rows = [[name, f"{wall:.1f} s", f"{used[name]:.1f} s"] for name, wall in seconds.items()]
    compared = table(["with to without", "ratio"], [[k, f"{v:.2f}"] for k, v in result["ratios"].items()])
    return f"""## The report

DenseNet-121, from one file of 2017, as whole processes; processor time is that of all cores.  The report runs
both networks in six more settings and once in float64.

{table(["process", "wall time", "processor time"], rows)}

{compared}

{ran(result)}
"""


def loading() -> str:
    result = load("loading")
    medians, ratios = result["medians"], result["ratios"]
    rows = [
        [
            f"`{peer}`",
            f"{m['loaded'] * 1000:.0f} ms",
            f"{m['used'] * 1000:.0f} ms",
            f"{m['private_mib']:.0f} MiB",
            f"{m['mapped_mib']:.0f} MiB",
        ]
        for peer, m in medians.items()
    ]
    times = {peer: m["loaded"] * 1000 for peer, m in medians.items()}
    compared = table(["DenseNet.from_pretrained", "ratio"], [[k, f"{v:.2f}"] for k, v in ratios.items()])
    return f"""## Loading

DenseNet-169 from this disk, without imports and without a network: torchvision from a warm cache in torch's
hub folder, timm from the same `model.safetensors`.  "Used" goes on to read every weight once.  Private memory
is a copy of the weights; mapped memory is the file itself, which processes share.

{bars("loading", "milliseconds", times, ["DenseNet.from_pretrained"])}

{table(["call", "loaded", "used", "private", "mapped"], rows)}

{compared}

{ran(result)}
"""


def training() -> str:
    result = load("training_memory")
    rows, values = [], {}
    for m in result["medians"]:
        name = f"{m['library']}{', memory_efficient' * m['memory_efficient']}"
        rows.append([name, f"{m['peak_mib']:,.0f} MiB", f"{m['seconds']:.2f} s"])
        values[name] = m["peak_mib"]
    ours = [name for name in values if name.startswith("densenet_convert")]
    return f"""## Training memory

One step of SGD on DenseNet-121, {result["batch"]} images of 224x224: what it takes at most above what
the process had before.

{bars("training-memory", "MiB", values, ours)}

{table(["network", "peak memory", "step"], rows)}

{table(["ratio to torchvision", ""], [[name, f"{value:.2f}"] for name, value in result["ratios"].items()])}

{ran(result)}
"""


def inference() -> str:
    result = load("inference")
    rows = [
        [
            f"{one['network'].removeprefix('densenet')}, {one['batch']}",
            one["runtime"],
            f"{one['seconds'] * 1000:,.0f} ms",
            f"{one['ratio']:.2f}",
            f"{one['error']:.1e}",
            f"{one['peak_mib']:,.0f} MiB",
            f"{one['first']:.1f} s",
        ]
        for one in result["rows"]
    ]
    head = ["network, images", "runtime", "time", "to eager", "largest error", "memory", "first run"]
    runtimes = ", ".join(f"{name} {version}" for name, version in result["runtimes"].items())
    return f"""## Inference

DenseNet-121 and 169 with random weights, images of 224x224, each runtime in a process of its own, in
alternation.  The error is the largest of the logits of one image against float64.  Memory is what the process
took at most, with the network, above what it had after importing torch.  The first run of one image includes
what is compiled then.  All compute in float32, but for the row of OpenVINO's default precision: it
is bfloat16 on this processor.  Ratios are medians of pairs.

{table(head, rows)}

{ADVICE}

{ran(result)}  {runtimes}.
"""


def pooling() -> str:
    result = load("transition_pooling")
    found, difference = result["accuracy"], result["max_minus_avg"]
    figure, axes = pyplot.subplots(figsize=(7, 2.4), layout="constrained")
    for row, one in enumerate(found.values()):
        axes.plot(one["values"], [row] * len(one["values"]), "o", color=OURS, alpha=0.35)
        axes.plot(one["mean"], row, "|", color="black", markersize=18)
    axes.set_yticks(range(len(found)), [f"{name} pooling" for name in found])
    axes.invert_yaxis()
    axes.set_xlabel("accuracy on the test images; a line is the mean")
    axes.spines[["top", "right"]].set_visible(False)
    rows = [
        [f"{name} pooling", f"{one['mean']:.2%}", f"{one['standard_deviation']:.2%}"]
        for name, one in found.items()
    ]
    return f"""## Average or max pooling in the transitions

A small DenseNet on scikit-learn's digits, {result["runs"]} seeds; of each seed both networks have the same
initial weights, split and order of batches.  "avg, then max" is the network trained with average pooling,
its weights untouched, with max pooling put in its place.

{saved(figure, "transition-pooling", ", ".join(f"{r[0]} {r[1]}" for r in rows))}

{table(["", "mean accuracy", "standard deviation"], rows)}

Max minus average, in pairs: {difference["mean"]:+.2%}, standard error {difference["standard_error"]:.2%}.

The proof notices the exchange:

```
{result["verifier"]}
```

{ran(result)}
"""


def never_loaded() -> str:
    """Which networks that were never loaded are found, and that no sound one is."""
    result = load("never_loaded")
    rows = [[kind, *shares(by_epoch)] for kind, by_epoch in result["never_loaded"].items()]
    rows += [[f"{kind}, SGD at 0.1", *shares(by_epoch)] for kind, by_epoch in result["at_rate_0.1"].items()]
    head = ["what was loaded", "saved at once", "1 epoch", *(f"{epoch} epochs" for epoch in range(2, 6))]
    sound = [[kind, share(counts)] for kind, counts in result["sound"].items()]
    factors = [factors_of(result, "dense_layers_behind"), factors_of(result, "features_behind")]
    return f"""## Networks that were never loaded

Small DenseNets on scikit-learn's digits at 32 pixels.  Sources that were trained for 20 epochs are loaded
with `strict=False` into networks whose names differ; these are saved at once, and after each epoch of a
fine-tuning (SGD at 0.01 and 0.001, Adam at 0.001 and 0.0001).  Said to be never loaded, by a conversion and
by `inspect` alike where one count stands, are {share(result["untrained"])} that were not trained,
{share(result["after_one_epoch"])} that were loaded in part, after one epoch, and
{share(result["false_alarms"])} that are sound: trained from scratch (saved after 1, 5, 7, 9, 11, 14 and 20
epochs), fine-tuned, or of another dtype.

{table(head, rows)}

{table(["sound networks, as they were saved", "said to be never loaded"], sound)}

Where no counts of batches tell it, dense layers are found by how much farther from 1 and 0 the batch norms
outside of them are, and features by how much more the head grew than the norm before it moved:

{table(["factor", "sound, at most", "said from", *head[2:]], factors)}

{ran(result)}
"""


def shares(by_epoch: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A cell for each of 0 to 5 epochs, empty where none was saved."""
    return [share(by_epoch[epoch]) if epoch in by_epoch else "" for epoch in map(str, range(6))]


def factors_of(result: Result, name: str) -> list[str]:
    margins = result[name]
    numbers = (margins["sound_at_most"], margins["said_from"], *margins["never_loaded_at_least"].values())
    return [name.replace("_", " "), *(f"{number:.3g}" for number in numbers)]


def share(counts: Mapping[str, int]) -> str:
    """``"40 of 40"``; and what ``inspect`` says of a sample, where that is something else."""
    found = f"{counts['converted']} of {counts['of']}"
    return (
        found if counts["converted"] == counts["inspected"] else f"{found} (`inspect` {counts['inspected']})"
    )


# What `make gpu` measures, and by what.
MEASURED = ("convert", "densenet", "benchmarks/gpu.py", "benchmarks/gpu_steps.py")
GPU_MARKS = ("<!-- made by benchmarks/page.py -->\n", "<!-- until here -->\n")


def gpu_page(page: str, made: str) -> str:
    """docs/gpu.md with what was made between its marks, and the rest as it was."""
    before, mark, rest = page.partition(GPU_MARKS[0])
    _, until, after = rest.partition(GPU_MARKS[1])
    if not mark or not until:
        raise SystemExit(f"docs/gpu.md lacks its marks, {GPU_MARKS}")
    return "".join((before, mark, made, until, after))


def gpu() -> str:
    """What the last run of `make gpu` gave, and of which commit."""
    if not (RESULTS / "gpu.json").exists():
        return "\nNot measured: no run of `make gpu` is recorded.\n\n"
    result = load("gpu")
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    rows = [
        [s["name"], s["status"], f"{s['seconds']:.1f} s", f"{s['limit']:g} s", f"{len(s['results']):,}"]
        for s in result["steps"]
    ]
    overview = table(["step", "status", "took", "limit", "results"], rows)
    return f"""
{standing(result["commit"])}

{result["date"]}, {result["device"]}, driver {result["driver"]}; {result["machine"]}; {versions};
`{result["command"]}`.

{overview}

{"".join(map(gpu_step, result["steps"]))}"""


def standing(commit: str | None) -> str:
    """Whether a run was of the code that is here."""
    if commit is None:
        return "Of an unknown commit."
    name, _, dirty = commit.partition("-")
    of = f"Commit {name[:7]}{', with changes that were not committed' * bool(dirty)}"
    command = ["git", "diff", "--quiet", name, "--", *MEASURED]
    try:
        code = subprocess.run(command, cwd=ROOT, capture_output=True).returncode
    except OSError:
        code = -1
    shown = {0: "what it measured is as it was", 1: "another than this: what it measured has changed since"}
    return f"{of}: {shown.get(code, 'this history does not have it')}."


def gpu_step(step: Result) -> str:
    """The step's results, a row each; of its tests those that did not pass."""
    results = [r for r in step["results"] if r.get("outcome") != "passed"]
    if not results:
        return ""
    head = list(dict.fromkeys(key for result in results for key in result))
    rows = [[cell(result.get(key)) for key in head] for result in results]
    return f"**{step['name']}**, {step['status']}\n\n{table(head, rows)}\n\n"


def cell(value: object) -> str:
    """A number to four digits, or text that breaks no table."""
    if isinstance(value, list):
        return " to ".join(map(cell, value))
    if isinstance(value, float):
        return f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}"
    return "" if value is None else re.sub(r"\s+", " ", str(value)).replace("|", "\\|")


def main() -> None:
    on_gpu = DOCS / "gpu.md"
    on_gpu.write_text(gpu_page(on_gpu.read_text(), gpu()))
    mpl.rcParams.update({"svg.hashsalt": "densenet-convert", "svg.fonttype": "none", "font.size": 10})
    parts = [conversion(), reporting(), loading(), training(), inference(), pooling(), never_loaded()]
    page = "\n".join([HEAD, *parts])
    (DOCS / "performance.md").write_text(page)


if __name__ == "__main__":
    main()

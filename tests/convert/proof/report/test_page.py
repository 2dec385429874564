"""The report stands alone, says the verdict in words, and draws whatever was measured."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from html import unescape
from html.parser import HTMLParser
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from checkpoints import SMALL

from densenet_convert.errors import ReportError
from densenet_convert.proof.report.charts import number_text
from densenet_convert.proof.report.diagnosis import Diagnosis
from densenet_convert.proof.report.page import _share, report_html, write_report
from densenet_convert.proof.report.pictures import Picture
from densenet_convert.proof.report.plots import draw_coverage, draw_differences, draw_errors, draw_logits
from densenet_convert.results import Measured

NORM = "features.denseblock1.denselayer1.norm1"
LAYERS = ("features.conv0", NORM, "features.denseblock2.denselayer1.norm1", "classifier", "the output")
ERRORS = {"float64": (0.0,) * 5, "float32": (1e-7, 2e-7, 3e-7, 2e-7, 4e-7)}
MESSAGE = f"The first of its activations that differs is at {NORM}: 0.3, expected 0."
HOSTILE = "<script>alert('1')</script>\" onload=\"x"

PROVEN = Diagnosis(
    layers=LAYERS,
    apart=(0.0,) * 5,
    ours=ERRORS,
    theirs=ERRORS,
    logits=((0.5, -1.0, 2.0), (0.5, -1.0, 2.0)),
    coverage={"features.conv0.weight": 0.98765, f"{NORM}.weight": 1.0},
    dead={"features.conv0.weight": (0, 1, 2, 7), "classifier.weight": tuple(range(0, 60, 2))},
    measured=(Measured("float32", 1e-6, 1e-6, 2e-6, 1.0), Measured("bfloat16", 0.01, 0.02, 0.04, 0.03)),
)
FAILED = replace(PROVEN, problem=MESSAGE, first=f"{NORM}.weight", apart=(0.0, 0.3, 0.2, 0.1, 0.1))
CAT = Picture("a/cat.png", "data:image/jpeg;base64,AA==", 0.25, (("tabby", 0.7, 0.6), ("lynx", 0.2, 0.4)))


def receipt(*, verified: bool = True, **source: Any) -> dict[str, Any]:
    """What the page reads of one, or of a proof that failed."""
    kinds = ("tensors", "activations", "logits")
    attempt = {
        "device": "cpu",
        "dtype": "float32",
        "reference": "torchvision's own loader",
        "inputs": [{"mode": "eval", "shape": [1, 3, 224, 224]}],
        "versions": {"torch": "2.14.1"},
        "asked": {"own network": "mine:build", "outputs": "recorded.safetensors"},
    }
    equal = dict.fromkeys(("logits", "gradients", "buffers"), "equal")
    own = {
        "name": "mine:build",
        "output": None,
        "around": [],
        "inputs": attempt["inputs"],
        "every_input": equal,
        "bound": 0.0,
    }
    verification = {
        **attempt,
        "every_input": equal,
        "own_network": own,
        "outputs": {"images": 2, "largest": 1e-6, "bound": 1e-5},
        "compared": dict.fromkeys(kinds, 1000),
        "largest_difference": dict.fromkeys(kinds, 0.0),
        "coverage": {
            "parameters": {"share": 0.99999},
            "running_statistics": {"share": 1.0},
            "reaching_logits": {"share": 0.97},
        },
    }
    fields = {
        "sha256": "6bd3295f",
        "size": 57_400_000,
        "format": "torch-legacy",
        "layout": "torchvision-dotted",
    }
    return {
        "converter": {"name": "densenet-convert", "version": "0.1.0"},
        "source": {**fields, "origin": "random", "seed": 3, **source},
        "config": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(SMALL).items()},
        "tensors": [{}] * 1015,
        "dropped": [],
        **({"verification": verification} if verified else {"attempt": attempt}),
    }


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


@pytest.fixture(scope="module")
def proven() -> str:
    """The page of a proof that holds; drawn once."""
    return report_html(PROVEN, receipt(), folder="new", pictures=[CAT])


@pytest.fixture(scope="module")
def failed() -> str:
    """The page of a proof that failed; drawn once."""
    return report_html(FAILED, receipt(verified=False), folder="new")


def page_of(diagnosis: Diagnosis = PROVEN, **of: Any) -> Page:
    return Page(report_html(diagnosis, receipt(**of), folder="new"))


def facts_of(html: str) -> dict[str, str]:
    """What a page says in rows of two cells."""
    found = re.findall(r'<tr><th scope="row">([^<]*)</th><td>([^<]*)</td></tr>', html)
    return {name: unescape(text) for name, text in found}


def parts(page: Page, name: str, kind: str) -> list[dict[str, str | None]]:
    """The elements of a name that are of a class."""
    return [one for one in page.all(name) if kind in str(one.get("class")).split()]


def test_the_page_loads_nothing_and_runs_nothing(proven: str) -> None:
    page = Page(proven)
    assert not re.search(r"https?:|@import|url\(", proven)
    assert {"script", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in page.elements)
    assert [str(image["src"])[:11] for image in page.all("img")] == ["data:image/"]
    assert "default-src 'none'" in proven


def test_the_same_records_give_the_same_text(failed: str) -> None:
    assert failed == report_html(FAILED, receipt(verified=False), folder="new")


def test_what_a_stranger_wrote_is_escaped() -> None:
    diagnosis = replace(
        FAILED,
        problem=HOSTILE,
        first=HOSTILE,
        layers=(HOSTILE, *LAYERS[1:]),
        ours={HOSTILE: (1.0,)},
        coverage={HOSTILE: 0.5},
        dead={HOSTILE: (1,)},
        measured=(Measured(HOSTILE, 1, 1, 1, 2),),
    )
    picture = replace(CAT, name=HOSTILE, classes=((HOSTILE, 1.0, 1.0),))
    stranger = receipt(format=HOSTILE, sha256=HOSTILE)
    page = Page(report_html(diagnosis, stranger, folder=HOSTILE, pictures=[picture]))
    assert page.all("script") == []
    assert not any("onload" in attributes for _, attributes in page.elements)
    assert page.text.count(HOSTILE) >= 14


def test_bytes_that_are_no_text_are_shown_as_they_are() -> None:
    html = report_html(PROVEN, receipt(), folder="net\udcff")
    assert b"net\\udcff" in html.encode()


def test_a_proof_is_shown_with_its_numbers_rounded(proven: str) -> None:
    text = Page(proven).text
    assert "✓ Proven" in text
    assert "3,000 comparisons" in text
    assert "random weights, seed 3: torch-legacy, layout torchvision-dotted, 57.4 MB" in text
    assert "99.9% of the parameters and 100% of the running statistics" in text


def test_a_failed_proof_is_shown_with_its_message_and_the_layer(failed: str) -> None:
    text = Page(failed).text
    assert "✗ Failed" in text
    assert "Proven" not in text
    assert MESSAGE in text
    assert f"The first that differs is {NORM}.weight, layer 1 in the first plot." in text


WHAT_RAN = {
    "folder": "new",
    "converter": "densenet-convert 0.1.0",
    "reference": "torchvision's own loader",
    "device": "cpu, float32",
    "versions": "torch 2.14.1",
}


def test_a_proof_says_what_was_proven_with_what_and_for_which_inputs(proven: str) -> None:
    for_these = "equal for every input of these shapes"
    known = WHAT_RAN | {
        "inputs": "eval 1x3x224x224",
        "every input": f"logits, gradients and buffers are {for_these}",
        "own network": f"mine:build, on eval 1x3x224x224, logits and gradients and buffers are {for_these}",
    }
    assert facts_of(proven).items() >= known.items()
    assert facts_of(proven)["outputs"].startswith("of 2 images, recorded elsewhere, largest error 1e-06")


def test_a_proof_that_failed_says_what_ran_and_on_what(failed: str) -> None:
    known = WHAT_RAN | {
        "inputs": "eval 1x3x224x224: in this order, until something differs",
        "own network": "mine:build",
        "outputs": "recorded.safetensors",
    }
    assert facts_of(failed).items() >= known.items()


@pytest.mark.parametrize(
    ("diagnosis", "verified"),
    [
        (PROVEN, False),
        (replace(PROVEN, first=NORM), True),
        (replace(PROVEN, measured=(Measured("bfloat16", 0.5, 0.1, 0.2, 1.0),)), True),
        (replace(PROVEN, measured=(Measured("bfloat16", nan, 0.1, 0.2, 1.0),)), True),
    ],
)
def test_nothing_is_called_proven_that_is_not(diagnosis: Diagnosis, verified: bool) -> None:
    assert "✗ Failed" in page_of(diagnosis, verified=verified).text


def test_every_plot_is_there_with_what_it_shows_in_words(failed: str) -> None:
    page = Page(failed)
    drawn = [str(one["aria-label"]) for one in page.all("svg") if one.get("role") == "img"]
    assert len(page.all("figcaption")) == len(drawn) == 4
    assert all(finding in page.text for finding in drawn)
    differences, errors, logits, coverage = drawn
    assert differences.startswith(f"Before layer 1, {NORM}, both are equal; there they differ by 0.3 of the")
    assert differences.endswith("largest value, and at 4 of 5 layers in all.")
    assert errors.endswith("both have the same error. The largest is 0 in float64, 4e-7 in float32.")
    assert logits == "The largest difference of 3 pairs of logits is 0."
    assert coverage == "The logits depend on all of 1 of 2 tensors; least on features.conv0.weight, 98.7%."


def test_errors_that_are_not_the_same_are_said_for_each_precision() -> None:
    plot = draw_errors(replace(PROVEN, ours={"float32": (1e-7, 1e-7, 3e-7, 2e-7, 5e-7)}))
    assert plot is not None
    assert plot.finding == (
        "In float32 our largest error is 5e-7, the reference's 4e-7; they are equal at 3 of 5 layers."
    )


def test_where_it_fails_the_first_layer_stands_out(proven: str, failed: str) -> None:
    page = Page(failed)
    assert len(parts(page, "g", "first")) == 2  # in both plots over the layers
    assert (len(parts(page, "circle", "same")), len(parts(page, "circle", "apart"))) == (1, 4)
    assert f"the first that differs: layer 1, {NORM}" in page.text
    assert parts(Page(proven), "g", "first") == parts(Page(proven), "circle", "apart") == []


def test_equal_layers_of_a_proof_that_failed_elsewhere_are_no_contradiction() -> None:
    plot = draw_differences(replace(PROVEN, problem=MESSAGE))
    assert plot is not None
    assert "equal at 5 of 5 layers: the message says what differs" in plot.finding


def test_each_layer_s_name_and_values_are_there_to_be_pointed_at_and_in_a_table(failed: str) -> None:
    page = Page(failed)
    assert len(parts(page, "g", "column")) == 2 * len(LAYERS) + len(FAILED.coverage)
    assert f"1: {NORM}difference 0.3, float32's rounding 2e-7" in page.text
    assert f"1: {NORM}0.302e-7" in page.text  # a row: the difference, and ours in float64 and in float32


def test_what_both_networks_say_of_an_image_stands_side_by_side(proven: str) -> None:
    page = Page(proven)
    assert "a/cat.pnglargest difference of a logit: 0.25" in page.text
    assert "tabby70.0%60.0%lynx20.0%40.0%" in page.text
    assert [cell["style"] for cell in parts(page, "td", "share")][:2] == ["--share: 70.0%", "--share: 60.0%"]


def test_a_table_has_a_row_for_each_thing(proven: str) -> None:
    page = Page(proven)
    heads, facts = len(page.all("thead")), 14
    tables = (facts, 3, len(PROVEN.dead), len(PROVEN.measured), len(LAYERS), len(CAT.classes))
    assert len(page.all("tr")) - heads == sum(tables)
    assert "0-2, 7" in page.text
    assert "0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22 and 18 more" in page.text
    assert "50%" in page.text
    assert "25%, tells nothing" in page.text


@pytest.mark.parametrize(
    ("ours", "bound", "text"),
    [(0.5, 0.2, "beyond: 2.5 times"), (nan, 0.2, "beyond"), (0.0, 0.0, "0%"), (0.1, 0.0, "beyond")],
)
def test_an_error_beyond_its_bound_is_marked(ours: float, bound: float, text: str) -> None:
    assert _share(Measured("bfloat16", ours, 0.1, bound, spread=1.0)) == text


def test_a_phone_shows_the_page_in_its_own_width_and_plots_keep_the_size_of_their_text(failed: str) -> None:
    page = Page(failed)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert "svg { font-size: 12px;" in failed
    stretched = [one for one in page.all("svg") if "viewbox" in one and one.get("class") != "square"]
    assert [one["preserveaspectratio"] for one in stretched] == ["none"] * 3
    assert failed.count('preserveAspectRatio="none"></svg>') == 1  # coverage: its marks are not stretched


def test_wide_tables_scroll_in_a_box_of_their_own_that_the_keyboard_reaches(proven: str) -> None:
    boxes = [box for box in Page(proven).all("div") if box.get("class") == "box"]
    assert len(boxes) == 4
    assert all(box["tabindex"] == "0" for box in boxes)


@pytest.mark.parametrize(
    "errors",
    [
        (0.0,) * 5,
        (nan,) * 5,
        (inf, nan, 0.0, 1e-7, 1e30),
        (5e-324, 1e308, 0.0, 1.0, 1.0),
        (1e-7,),
    ],
)
def test_zero_infinite_and_no_number_are_drawn(errors: tuple[float, ...]) -> None:
    plain = draw_errors(PROVEN)
    plot = draw_errors(replace(PROVEN, ours={"float32": errors}, theirs={"float32": (1e-7,) * len(errors)}))
    assert plot is not None
    assert plain is not None
    assert plot.markup != plain.markup
    assert not re.search(r'(?:cy|y1|y2|d)="[^"]*(?:nan|inf)', plot.markup)


def test_an_error_that_is_no_number_is_the_largest() -> None:
    plot = draw_errors(replace(PROVEN, ours={"float32": (1.0, nan, 2.0)}))
    assert plot is not None
    assert "our largest error is NaN" in plot.finding


def test_logits_that_are_not_finite_are_counted() -> None:
    plot = draw_logits(replace(PROVEN, logits=((nan, inf, 1.0), (1.0, 1.0, 1.5))))
    assert plot is not None
    assert "of 1 pairs of logits is 0.5. Pairs that are not finite, and not drawn: 2." in plot.finding


def test_a_network_of_one_layer_is_drawn() -> None:
    one = Diagnosis(
        ("the output",), (0.0,), {"float32": (0.0,)}, {"float32": (0.0,)}, ((1.0,), (1.0,)), {"a": 1}, {}, ()
    )
    assert len(page_of(one).all("figure")) == 4


def test_what_was_not_measured_is_said_to_be_missing() -> None:
    nothing = Diagnosis((), (), {}, {}, ((), ()), {}, {}, (), problem=MESSAGE, first=NORM)
    page = page_of(nothing, verified=False)
    assert page.all("svg") == []
    assert page.text.count("Not drawn") == 3
    assert "Coverage" not in page.text


def test_the_page_of_a_large_network_stays_under_two_megabytes() -> None:
    layers = tuple(f"features.denseblock{1 + i // 300}.denselayer{i}.norm1" for i in range(1200))
    errors = {p: tuple(1e-7 * (1 + i * 7919 % 101) for i in range(1200)) for p in "abcd"}
    logits = tuple(float(i * 7919 % 1009) for i in range(4000))
    large = replace(
        PROVEN,
        layers=layers,
        apart=errors["a"],
        ours=errors,
        theirs=errors,
        logits=(logits, logits),
        coverage={name: (i * 7919 % 101) / 101 for i, name in enumerate(layers)},
    )
    assert len(report_html(large, receipt(), folder="large")) < 2_000_000


def test_shares_are_rounded_down() -> None:
    plot = draw_coverage(replace(PROVEN, coverage={"a": 0.99999}))
    assert plot is not None
    assert plot.finding.endswith("99.9%.")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (2.14e-6, "2.14e-6"),
        (1e-12, "1e-12"),
        (0.03125, "0.0312"),
        (1e30, "1e30"),
        (-inf, "infinite"),
    ],
)
def test_numbers_are_written_for_people(value: float, text: str) -> None:
    assert number_text(value) == text


def test_a_page_that_the_system_does_not_take_is_an_error_with_its_reason() -> None:
    with pytest.raises(ReportError, match="can't be written: Not a directory"):
        write_report(Path(__file__) / "page.html", PROVEN, receipt(), folder="new")

"""The report stands alone, says the verdict in words, and draws whatever was measured."""

from __future__ import annotations

import re
import sys
from base64 import b64decode
from dataclasses import asdict, replace
from html.parser import HTMLParser
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from checkpoints import SMALL

from densenet_convert.errors import ConvertError, ReportError
from densenet_convert.proof.report.diagnosis import Diagnosis
from densenet_convert.proof.report.page import _share, check_report, report_html, write_report
from densenet_convert.proof.report.plots import draw_coverage, draw_errors, draw_logits, number_text
from densenet_convert.results import Measured

NORM = "features.denseblock1.denselayer1.norm1"
LAYERS = ("features.conv0", NORM, "features.denseblock2.denselayer1.norm1", "classifier", "the output")
ERRORS = {"float64": (0.0,) * 5, "float32": (1e-7, 2e-7, 3e-7, 2e-7, 4e-7)}
MESSAGE = f"The first of its activations that differs is at {NORM}: 0.3, expected 0."
HOSTILE = "<script>alert('1')</script>\" onload=\"x"

PROVEN = Diagnosis(
    layers=LAYERS,
    ours=ERRORS,
    theirs=ERRORS,
    logits=((0.5, -1.0, 2.0), (0.5, -1.0, 2.0)),
    coverage={"features.conv0.weight": 0.98765, f"{NORM}.weight": 1.0},
    dead={"features.conv0.weight": (0, 1, 2, 7), "classifier.weight": tuple(range(0, 60, 2))},
    measured=(Measured("float32", 1e-6, 1e-6, 2e-6, 1.0), Measured("bfloat16", 0.01, 0.02, 0.04, 0.03)),
)
FAILED = replace(PROVEN, problem=MESSAGE, first=f"{NORM}.weight")


def receipt(*, verified: bool = True, **source: Any) -> dict[str, Any]:
    """What the page reads of one."""
    kinds = ("tensors", "activations", "logits")
    verification = {
        "device": "cpu",
        "dtype": "float32",
        "reference": "torchvision's own loader",
        "inputs": [{"mode": "eval", "shape": [1, 3, 224, 224]}],
        "compared": dict.fromkeys(kinds, 1000),
        "largest_difference": dict.fromkeys(kinds, 0.0),
        "coverage": {
            "parameters": {"share": 0.99999},
            "running_statistics": {"share": 1.0},
            "reaching_logits": {"share": 0.97},
        },
        "versions": {"torch": "2.14.1"},
    }
    fields = {
        "sha256": "6bd3295f",
        "size": 57_400_000,
        "format": "torch-legacy",
        "layout": "torchvision-dotted",
    }
    return {
        "source": {**fields, "origin": "random", "seed": 3, **source},
        "config": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(SMALL).items()},
        "tensors": [{}] * 1015,
        "dropped": [],
        **({"verification": verification} if verified else {}),
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
    return report_html(PROVEN, receipt(), title="densenet169")


@pytest.fixture(scope="module")
def failed() -> str:
    """The page of a proof that failed; drawn once."""
    return report_html(FAILED, receipt(verified=False), title="densenet169")


def page_of(diagnosis: Diagnosis = PROVEN, **of: Any) -> Page:
    return Page(report_html(diagnosis, receipt(**of), title="densenet169"))


def images(page: Page) -> list[str]:
    return [str(i["src"]) for i in page.all("img")] + [str(s["srcset"]) for s in page.all("source")]


def test_the_page_loads_nothing_and_runs_nothing(proven: str) -> None:
    page = Page(proven)
    assert not re.search(r"https?:|@import|url\(", proven)
    assert {"script", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in page.elements)
    assert all(image.startswith("data:image/") for image in images(page))
    assert "default-src 'none'" in proven


def test_the_same_records_give_the_same_text(failed: str) -> None:
    assert failed == report_html(FAILED, receipt(verified=False), title="densenet169")
    svgs = [b64decode(image.partition(",")[2]) for image in images(Page(failed))]
    assert not any(b"<dc:date>" in svg for svg in svgs)


def test_the_user_s_settings_of_matplotlib_neither_show_nor_change(proven: str) -> None:
    import matplotlib

    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "svg.hashsalt": "other"}):
        assert report_html(PROVEN, receipt(), title="densenet169") == proven
        assert matplotlib.rcParams["font.size"] == 30
        assert matplotlib.rcParams["svg.hashsalt"] == "other"


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
    page = Page(report_html(diagnosis, receipt(format=HOSTILE, sha256=HOSTILE), title=HOSTILE))
    assert page.all("script") == []
    assert not any("onload" in attributes for _, attributes in page.elements)
    assert page.text.count(HOSTILE) >= 8


def test_names_that_look_like_formulas_and_bytes_that_are_no_text_are_shown_as_they_are() -> None:
    odd = r"$\frac{$"
    diagnosis = replace(FAILED, layers=(odd, *LAYERS[1:]), first=odd, ours={odd: (1.0,) * 5})
    html = report_html(diagnosis, receipt(), title="net\udcff")
    assert odd in Page(html).text
    assert b"net\\udcff" in html.encode()


def test_a_proof_is_shown_with_its_numbers_rounded(proven: str) -> None:
    text = Page(proven).text
    assert "✓ Proven" in text
    assert "3,000 comparisons" in text
    assert "random weights, seed 3: torch-legacy, layout torchvision-dotted, 57.4 MB" in text
    assert "99.9% of the parameters and 100% of the running statistics" in text
    assert "eval 1x3x224x224" in text


def test_a_failed_proof_is_shown_with_its_message_and_the_layer(failed: str) -> None:
    text = Page(failed).text
    assert "✗ Failed" in text
    assert "Proven" not in text
    assert MESSAGE in text
    assert f"The first that differs is {NORM}.weight, layer 1 in the first plot." in text


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


def test_every_plot_is_there_for_light_and_dark_and_in_words(failed: str) -> None:
    page = Page(failed)
    assert len(page.all("picture")) == len(page.all("figcaption")) == 3
    assert [s["media"] for s in page.all("source")] == ["(prefers-color-scheme: dark)"] * 3
    assert len(set(images(page))) == 6
    errors, logits, coverage = (str(image["alt"]) for image in page.all("img"))
    assert (
        "In float32 our largest error is 4e-7, the reference's 4e-7; they are equal at 5 of 5 layers"
        in errors
    )
    assert f"The first that differs is layer 1, {NORM}." in errors
    assert logits == "The largest difference of 3 pairs of logits is 0."
    assert coverage == "The logits depend on all of 1 of 2 tensors; least on features.conv0.weight, 98.7%."


def test_a_table_has_a_row_for_each_thing(proven: str) -> None:
    page = Page(proven)
    rows = len(page.all("tr")) - 3  # heads
    assert rows == 9 + 3 + len(PROVEN.dead) + len(PROVEN.measured)
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


def test_wide_tables_scroll_in_a_box_of_their_own_that_the_keyboard_reaches(proven: str) -> None:
    boxes = [box for box in Page(proven).all("div") if box.get("class") == "box"]
    assert len(boxes) == 3
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
    assert plot.light not in (plot.dark, plain.light)


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
        ("the output",), {"float32": (0.0,)}, {"float32": (0.0,)}, ((1.0,), (1.0,)), {"a": 1}, {}, ()
    )
    assert len(page_of(one).all("picture")) == 3


def test_what_was_not_measured_is_said_to_be_missing() -> None:
    nothing = Diagnosis((), {}, {}, ((), ()), {}, {}, (), problem=MESSAGE, first=NORM)
    page = page_of(nothing, verified=False)
    assert page.all("img") == []
    assert page.text.count("Not drawn") == 2
    assert "Coverage" not in page.text


def test_the_page_of_a_large_network_stays_under_two_megabytes() -> None:
    layers = tuple(f"features.denseblock{1 + i // 300}.denselayer{i}.norm1" for i in range(1200))
    errors = {p: tuple(1e-7 * (1 + i * 7919 % 101) for i in range(1200)) for p in "abcd"}
    logits = tuple(float(i * 7919 % 1009) for i in range(4000))
    large = replace(
        PROVEN,
        layers=layers,
        ours=errors,
        theirs=errors,
        logits=(logits, logits),
        coverage={name: (i * 7919 % 101) / 101 for i, name in enumerate(layers)},
    )
    assert len(report_html(large, receipt(), title="large")) < 2_000_000


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


def test_a_missing_matplotlib_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ReportError, match=r'pip install "densenet-convert\[report\]"') as caught:
        check_report(Path("page.html"))
    assert isinstance(caught.value, ConvertError)


def test_a_page_that_the_system_does_not_take_is_an_error_with_its_reason() -> None:
    with pytest.raises(ReportError, match="can't be written: Not a directory"):
        write_report(Path(__file__) / "page.html", PROVEN, receipt())

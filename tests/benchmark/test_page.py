"""The report's page, as a reader of the file and as a real browser see it."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualsr_cli.benchmark import page as page_module
from dualsr_cli.benchmark.pictures import TRUTH, Picture
from dualsr_cli.benchmark.report import write_report
from dualsr_cli.benchmark.results import efficiency_by_size

from ..browser import browse, complaints, in_browser

sys.path.append(str(Path(__file__).parent))

from example_tables import paper_table, psnr_table

COLOURS = {"bicubic": (220, 20, 20), "kedusr": (20, 20, 220), TRUTH: (20, 160, 20)}


def plain(colour: tuple[int, int, int], side: int = 200) -> np.ndarray:
    return np.full((side, side, 3), colour, np.uint8)


def picture(case: str, side: int = 200) -> Picture:
    images = {name: plain(colour, side) for name, colour in COLOURS.items()}
    return Picture("", 2, case, 0, 0, images)


def report(folder: Path) -> Path:
    """A page of two protocols, with pictures of two of three cases."""
    first = paper_table()
    second = replace(first, protocol="selfdzsr", printed=())
    write_report(
        folder,
        [first, second],
        [picture("0001"), picture("0000")],
        sizes=efficiency_by_size(first.rows),
        facts={"Processor": "two cores"},
    )
    return folder / "index.html"


class Page(HTMLParser):
    """What a reader of the file finds: the tags, the text, the addresses, what scripts read."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.data: dict[str, Any] = {}
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.tags.append(tag)
        self.addresses += [str(values[n]) for n in ("src", "href", "action") if n in values]

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1] not in ("style", "script"):
            self.text += data
        elif data.startswith("{"):
            self.data = json.loads(data)


def test_the_file_stands_alone_and_is_complete_without_scripts(tmp_path: Path) -> None:
    page = Page(report(tmp_path))
    assert page.addresses == []
    assert "url(" not in page.source
    assert "@import" not in page.source
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.source)
    for words in ("kedusr", "28.67", "DM3Net, table 2", "0003.png is damaged", "two cores"):
        assert words in page.text


def test_pictures_lie_in_the_page_as_they_were(tmp_path: Path) -> None:
    data = Page(report(tmp_path)).data
    assert [one["case"] for one in data["pictures"]] == ["0001", "0000"]
    for name, uri in data["pictures"][0]["images"].items():
        found = Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))
        assert found.size == (200, 200)
        assert np.abs(np.asarray(found, np.int16) - COLOURS[name]).max() <= 3


def test_a_page_is_bounded_and_says_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "PICTURE_BYTES", 20_000)
    pictures = [picture(f"{at:04d}", 300) for at in range(9)]
    write_report(tmp_path, [paper_table()], pictures)
    page = Page(tmp_path / "index.html")
    kept = page.data["pictures"]
    assert 0 < len(kept) < 9
    assert [one["case"] for one in kept] == [f"{at:04d}" for at in range(len(kept))]
    assert sum(len(uri) for one in kept for uri in one["images"].values()) <= 20_000
    assert f"{9 - len(kept)} of 9 cases are left out" in page.text


def test_text_cannot_become_markup(tmp_path: Path) -> None:
    evil = '</script><script>alert("1")</script>&amp;$title ${x}'
    write_report(tmp_path, [psnr_table({evil: [20, 21]})], facts={evil: evil})
    page = Page(tmp_path / "index.html")
    assert page.tags.count("script") == 2
    assert page.text.count(evil) == 3  # the table's row, the fact's name and value
    assert page.data["methods"] == [evil]


# ---- in a real browser


def act(page: Path, script: str) -> Path:
    """A copy of the page in which `script`, a person's hands, acts after loading."""
    helpers = """
      const one = name => document.querySelector(name);
      const all = name => [...document.querySelectorAll(name)];
      const key = (target, name, more) => target.dispatchEvent(
        new KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true, ...more}));
      const pointer = (target, kind, x, y) => target.dispatchEvent(new PointerEvent(kind,
        {pointerId: 1, pointerType: "mouse", clientX: x, clientY: y, bubbles: true,
         cancelable: true, button: 0}));
      const choose = (select, value) => {
        select.value = value;
        select.dispatchEvent(new Event("change", {bubbles: true}));
      };
      const seen = element => element.getClientRects().length > 0;
      const result = {};
    """
    text = page.read_text(encoding="utf-8")
    told = """
      result.loaded = performance.getEntriesByType("resource").map(entry => entry.name.slice(0, 5));
      document.documentElement.dataset.result = JSON.stringify(result);
    """
    acted = page.with_name("acted.html")
    acted.write_text(
        text.replace("</body>", f"<script>{{{helpers}{script};{told}}}</script></body>"),
        encoding="utf-8",
    )
    return acted


def outcome(folder: Path, page: Path, script: str) -> dict[str, Any]:
    """What the script put into `result`, of a page that complains of nothing and loads nothing."""
    done = browse(folder, act(page, script), "--dump-dom")
    assert complaints(done) == []
    found = re.search(r'data-result="([^"]*)"', done.stdout)
    assert found, done.stderr
    result: dict[str, Any] = json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&"))
    assert set(result.pop("loaded")) <= {"data:"}
    return result


@in_browser
def test_tables_sort_and_are_chosen(tmp_path: Path) -> None:
    result = outcome(
        tmp_path,
        report(tmp_path),
        """
        const table = one(".results table");
        const head = at => table.querySelectorAll("thead tr:last-child > *")[at];
        const cells = at => [...table.tBodies[0].rows].map(row => row.cells[at]);
        const first = () => cells(0).slice(0, 3).map(cell => cell.textContent);
        const values = at => cells(at).map(cell => cell.dataset.value ?? null);
        const press = at => { head(at).querySelector("button").click(); return head(at).ariaSort; };
        result.start = first();
        result.best = [press(2), values(2).map(Number)];
        result.worst = [press(2), values(2).map(Number)];
        result.back = [press(2), first()];
        const distance = [0, 1, 2, 3, 4].find(at => head(at).textContent === "LPIPS");
        result.distance = [press(distance), values(distance)];
        result.names = [press(0), first(), head(distance).ariaSort];
        const printed = () => all(".results:not([hidden]) tr.paper").some(seen);
        result.printed = [printed(), (one("#printed").click(), printed())];
        choose(one("#bar select"), "1");
        result.second = all(".results").map(seen);
        const sizes = [...document.querySelectorAll("table.sortable")].at(-1);
        sizes.querySelectorAll("thead button")[5].click();
        result.sizes = [...sizes.tBodies[0].rows].map(row => row.cells[0].textContent);
        """,
    )
    assert result["start"] == ["bicubic", "kedusr", "KeDuSR"]
    assert result["best"][0] == "descending"
    assert result["best"][1] == sorted(result["best"][1], reverse=True)
    assert result["worst"][0] == "ascending"
    assert result["worst"][1] == sorted(result["worst"][1])
    assert result["back"] == [None, result["start"]]
    assert result["distance"][0] == "ascending"
    there = [float(value) for value in result["distance"][1] if value is not None]
    assert there == sorted(there)
    lacking = [value is None for value in result["distance"][1]]
    assert lacking == sorted(lacking), "what has no number comes last"
    assert result["names"] == ["ascending", ["bicubic", "BSRGAN", "DATSR-rec"], None]
    assert result["printed"] == [True, False]
    assert result["second"] == [False, True]
    assert result["sizes"] == ["bicubic", "kedusr", "dm3net"]


@in_browser
def test_plots_show_what_is_chosen(tmp_path: Path) -> None:
    result = outcome(
        tmp_path,
        report(tmp_path),
        """
        const named = selector => all(selector + " svg .name").map(text => text.textContent);
        result.names = named("#cost");
        result.dots = all("#cost .dot").length;
        one("#printed").click();
        result.measured = [named("#cost"), all("#cost .dot").length];
        one("#cost input[value=parameters]").click();
        result.parameters = [named("#cost"), one("#cost svg").getAttribute("aria-label")];
        result.cases = all("#cases .dot").length;
        one("#cases .legend button").click();
        result.without = [all("#cases .dot").length, one("#cases .legend button").ariaPressed];
        one("#cases .legend button").click();
        const plot = () => one("#cases .plot svg"), told = () => one("#cases .readout").textContent;
        result.told = [told()];
        key(plot(), "ArrowRight"); result.told.push(told());
        key(plot(), "End"); result.told.push(told());
        const area = plot().getBoundingClientRect();
        pointer(plot(), "pointermove", area.left + area.width / 2, area.top + 50);
        result.told.push(told());
        const [order, base] = all("#cases select");
        choose(order, "bicubic");
        key(plot(), "Home"); key(plot(), "ArrowRight"); result.ordered = told();
        choose(base, "bicubic"); result.difference = plot().getAttribute("aria-label");
        one("#bar input[value=lpips]").click();
        result.lpips = [told(), document.activeElement.value];
        one("#cases summary").click();
        """,
    )
    assert {"bicubic", "kedusr", "dm3net", "KeDuSR", "DM3Net"} <= set(result["names"])
    assert result["dots"] > 3
    assert [sorted(result["measured"][0]), result["measured"][1]] == [
        ["bicubic", "dm3net", "kedusr"],
        3,
    ]
    assert result["parameters"][0] == ["kedusr"]
    assert "Parameters (M)" in result["parameters"][1]
    assert result["cases"] == 8
    assert result["without"] == [5, "false"]
    assert result["told"][0].startswith("0000Look at itkedusr 26.00")
    assert result["told"][1].startswith("0001")
    assert result["told"][1].index("dm3net 31.00") < result["told"][1].index("bicubic 30.00")
    assert result["told"][2] == "0002kedusr 31.00bicubic 27.00", "it has no picture"
    assert result["told"][3].startswith("0001")
    assert result["ordered"].startswith("0002"), "24, then 27, then 30"
    assert "less that of bicubic" in result["difference"]
    assert "kedusr 0.190bicubic 0.230" in result["lpips"][0]
    assert result["lpips"][1] == "lpips"


@in_browser
def test_the_slider_slides_and_the_worst_can_be_looked_at(tmp_path: Path) -> None:
    result = outcome(
        tmp_path,
        report(tmp_path),
        """
        const viewer = one(".viewer"), handle = one(".handle");
        viewer.setPointerCapture = () => {};  // there is no real pointer to capture
        const split = () => handle.style.left;
        const cut = () => Number(one(".stage .right").style.clipPath.match(/([0-9.]+)px\\)$/)[1]);
        const text = (name, from = document) => from.querySelector(name).textContent;
        const sides = () => [text(".tag.left"), text(".tag.right"), one(".stage .left").alt];
        result.start = [split(), sides()];
        key(handle, "ArrowRight"); key(handle, "ArrowLeft", {shiftKey: true});
        result.keys = split();
        key(handle, "Home"); key(handle, "ArrowLeft"); result.home = [split(), cut()];
        key(handle, "End"); result.end = [split(), handle.ariaValueNow];
        const box = viewer.getBoundingClientRect(), at = part => box.left + part * box.width;
        pointer(viewer, "pointerdown", at(.25), box.top + 50);
        result.press = [split(), cut() / box.width];
        pointer(viewer, "pointermove", at(.75), box.top + 50); result.drag = split();
        pointer(viewer, "pointerup", at(.75), box.top + 50);
        pointer(viewer, "pointermove", at(.1), box.top + 50); result.released = split();
        one("#look input[value='4']").click();
        const rendering = getComputedStyle(one(".stage img")).imageRendering;
        result.zoom = [one(".stage").clientWidth, rendering];
        one(".shot[data-name=truth]").click();
        result.shown = [sides(), all(".shot[aria-pressed=true]").map(shot => shot.dataset.name)];
        one(".shot[data-name=kedusr]").dispatchEvent(
          new MouseEvent("click", {shiftKey: true, bubbles: true}));
        result.shifted = sides();
        one("#look .tools > button:last-of-type").click(); result.next = sides();
        const cards = all("#worst .card");
        result.worst = cards.map(card => [text("h3", card), text("li", card)]);
        cards[1].querySelectorAll("button")[1].click();
        result.looked = [sides(), document.activeElement === handle];
        """,
    )
    assert result == {
        "start": ["50%", ["bicubic", "kedusr", "0001: bicubic"]],
        "keys": "42%",
        "home": ["0%", 0],
        "end": ["100%", "100"],
        "press": ["25%", pytest.approx(0.25, abs=0.002)],
        "drag": "75%",
        "released": "75%",
        "zoom": [800, "pixelated"],
        "shown": [["bicubic", "truth", "0001: bicubic"], ["truth"]],
        "shifted": ["kedusr", "truth", "0001: kedusr"],
        "next": ["kedusr", "truth", "0000: kedusr"],
        "worst": [
            ["bicubic", "000024.00−3.00"],
            ["kedusr", "000026.00−2.67"],
            ["dm3net", "000025.50−2.75"],
        ],
        "looked": [["kedusr", "kedusr", "0001: kedusr"], True],
    }


@in_browser
def test_what_is_seen_is_the_left_and_the_right_image(tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    alone = "for (const other of all('section')) other.hidden = other.id !== 'look';"
    page = act(report(tmp_path), f"{alone} key(one('.handle'), 'ArrowLeft')")
    assert complaints(browse(tmp_path, page, f"--screenshot={shot}")) == []
    seen = np.asarray(Image.open(shot).convert("RGB"), np.int16)
    red, blue = (
        np.flatnonzero((np.abs(seen - COLOURS[name]).max(axis=2) <= 6).mean(axis=0) > 0.4)
        for name in ("bicubic", "kedusr")
    )
    assert red.max() < blue.min()
    assert len(red) / (len(red) + len(blue)) == pytest.approx(0.48, abs=0.02)


@in_browser
def test_the_page_may_load_nothing(tmp_path: Path) -> None:
    stained = "new Image().src = 'http://127.0.0.1:9/picture.png'"
    refused = complaints(browse(tmp_path, act(report(tmp_path), stained), "--dump-dom"))
    assert any("Content Security Policy" in line for line in refused)


@in_browser
def test_a_report_without_times_pictures_or_finite_scores_has_no_empty_plots(
    tmp_path: Path,
) -> None:
    write_report(tmp_path, [psnr_table({"a": [math.inf, math.inf], "b": [20, math.inf]})])
    result = outcome(
        tmp_path,
        tmp_path / "index.html",
        """
        result.seen = all("section").filter(seen).map(section => section.id);
        result.told = one("#cases .readout").textContent;
        result.wide = document.documentElement.scrollWidth <= innerWidth;
        """,
    )
    assert result == {"seen": ["", "cases", "worst"], "told": "case0a ∞b 20.00", "wide": True}

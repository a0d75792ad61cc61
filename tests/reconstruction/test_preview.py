"""The page to look at a result, as a reader of the file and as a real browser see it."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualsr_cli.errors import OutputError
from dualsr_cli.reconstruction.preview import PAGE_PIXELS, Crop, write_preview

from ..browser import browse, complaints, in_browser

RED, BLUE, GREEN = (220, 20, 20), (20, 20, 220), (20, 160, 20)


def plain(width: int, height: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def preview(path: Path, **changes: Any) -> str:
    """Write a page of a red before and a blue after, with `changes`; return it."""
    arguments: dict[str, Any] = {
        "title": "A pair",
        "before": plain(400, 300, RED),
        "after": plain(400, 300, BLUE),
        "footprint": [(100, 75), (300, 75), (300, 225), (100, 225)],
        "provenance": np.full((30, 40), 2, np.uint8),
        "facts": {"Zoom": "2.4"},
    }
    write_preview(path, **{**arguments, **changes})
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a reader of the file finds: the pictures, the text, the addresses."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.pictures: dict[str, list[Image.Image]] = {}
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.tags.append(tag)
        self.addresses += [str(values[n]) for n in ("src", "href", "action") if n in values]
        if tag == "img":
            data = base64.b64decode(str(values["src"]).split("base64,", 1)[1])
            name = values["alt"] or str(values["class"])
            self.pictures.setdefault(name, []).append(Image.open(io.BytesIO(data)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] not in ("style", "script"):
            self.text += data


def test_small_photos_are_shown_as_they_are(tmp_path: Path) -> None:
    page = Page(preview(tmp_path / "page.html"))
    (before,), (after,) = page.pictures["Before"], page.pictures["After"]
    assert before.size == after.size == (400, 300)
    assert np.abs(np.asarray(before, np.int16) - RED).max() <= 3
    assert np.abs(np.asarray(after, np.int16) - BLUE).max() <= 3


def test_the_page_stands_alone(tmp_path: Path) -> None:
    page = preview(tmp_path / "page.html")
    found = Page(page)
    assert found.addresses
    assert all(address.startswith("data:image/") for address in found.addresses)
    assert "url(" not in page
    assert "@import" not in page


def test_a_big_photo_is_reduced_and_its_crops_are_not(tmp_path: Path) -> None:
    crop = Crop("Centre", plain(800, 600, RED), plain(800, 600, GREEN))
    page = Page(
        preview(
            tmp_path / "page.html",
            before=plain(4000, 3000, RED),
            after=plain(4000, 3000, BLUE),
            crops=[crop, crop, crop],
        )
    )
    shown = [p for name in ("Before", "After") for p in page.pictures[name]]
    assert sum(p.width * p.height for p in shown) == pytest.approx(PAGE_PIXELS, rel=0.01)
    assert [p.size for p in page.pictures["After"][1:]] == [(800, 600)] * 3
    assert page.pictures["After"][0].width / page.pictures["After"][0].height == pytest.approx(
        4 / 3, rel=0.01
    )
    assert "4000 × 3000" in page.text


def test_many_crops_leave_an_overview(tmp_path: Path) -> None:
    crop = Crop("All", plain(2500, 2000, RED), plain(2500, 2000, BLUE))
    page = Page(
        preview(
            tmp_path / "page.html",
            before=plain(2500, 2000, RED),
            after=plain(2500, 2000, BLUE),
            crops=[crop, crop],
        )
    )
    assert page.pictures["After"][0].width >= 400


def test_text_cannot_become_markup(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>&amp;$title ${x}'
    crop = Crop(evil, plain(8, 8, RED), plain(8, 8, BLUE))
    page = Page(preview(tmp_path / "page.html", title=evil, facts={evil: evil}, crops=[crop]))
    assert page.tags.count("script") == 1
    assert page.text.count(evil) == 5  # window title, heading, fact's name and value, crop


def test_facts_keep_their_order(tmp_path: Path) -> None:
    page = Page(preview(tmp_path / "page.html", facts={"Zoom": "2.4", "Agreement": "87 %"}))
    assert page.text.index("Zoom") < page.text.index("2.4") < page.text.index("Agreement")


@pytest.mark.parametrize("as_shares", [False, True])
def test_the_legend_tells_the_shares(tmp_path: Path, as_shares: bool) -> None:
    codes = np.full((10, 10), 2, np.uint8)
    codes[:, :5] = 0
    codes[:2, 5:] = 1
    provenance = np.eye(3, dtype=np.float32)[codes] if as_shares else codes
    text = Page(preview(tmp_path / "page.html", provenance=provenance)).text
    assert re.findall(r"(\d+) %", text) == ["50", "10", "40"]


def test_the_map_has_a_colour_for_each_source(tmp_path: Path) -> None:
    codes = np.repeat(np.arange(3, dtype=np.uint8), 100).reshape(3, 100)
    (picture,) = Page(preview(tmp_path / "page.html", provenance=codes)).pictures["provenance"]
    pixels = np.asarray(picture)
    assert pixels.shape == (3, 100, 4)
    assert len({tuple(row[0]) for row in pixels}) == 3
    assert ((pixels[..., 3] > 0) & (pixels[..., 3] < 255)).all()


def test_without_a_tele_photo_nothing_is_outlined(tmp_path: Path) -> None:
    page = Page(preview(tmp_path / "page.html", footprint=None, provenance=None))
    assert "svg" not in page.tags
    assert "input" not in page.tags
    assert "provenance" not in page.pictures


def test_the_colour_profile_goes_along(tmp_path: Path) -> None:
    from PIL import ImageCms

    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    page = Page(preview(tmp_path / "page.html", icc=icc))
    assert page.pictures["After"][0].info["icc_profile"] == icc
    assert page.pictures["Before"][0].info["icc_profile"] == icc


def test_sizes_that_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must match"):
        preview(tmp_path / "page.html", before=plain(399, 300, RED))
    assert not (tmp_path / "page.html").exists()


def test_a_page_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=re.escape(str(tmp_path))):
        preview(tmp_path)


# ---- in a real browser


def act(page: Path, script: str) -> Path:
    """A copy of the page in which `script`, a person's hands, acts after loading."""
    helpers = """
      const viewer = document.querySelector(".viewer");
      const handle = viewer.querySelector(".handle");
      const key = (name, more) => handle.dispatchEvent(
        new KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true, ...more}));
      const pointer = (target, kind, x, y) => target.dispatchEvent(new PointerEvent(kind,
        {pointerId: 1, clientX: x, clientY: y, bubbles: true, cancelable: true, button: 0}));
      viewer.setPointerCapture = () => {};  // there is no real pointer to capture
      const click = name => document.querySelector(name).click();
      const split = () => getComputedStyle(viewer).getPropertyValue("--split");
      const zoom = () => document.querySelector(".zoom").textContent;
      const result = {};
    """
    text = page.read_text(encoding="utf-8")
    report = "document.documentElement.dataset.result = JSON.stringify(result);"
    acted = page.with_name("acted.html")
    acted.write_text(
        text.replace("</body>", f"<script>{{{helpers}{script};{report}}}</script></body>"),
        encoding="utf-8",
    )
    return acted


def outcome(folder: Path, page: Path, script: str) -> dict[str, Any]:
    done = browse(folder, act(page, script), "--dump-dom")
    assert complaints(done) == []
    found = re.search(r'data-result="([^"]*)"', done.stdout)
    assert found, done.stderr
    result: dict[str, Any] = json.loads(found[1].replace("&quot;", '"'))
    return result


def screenshot(folder: Path, page: Path) -> np.ndarray:
    picture = folder / "shot.png"
    done = browse(folder, page, f"--screenshot={picture}")
    assert complaints(done) == []
    return np.asarray(Image.open(picture).convert("RGB"), np.int16)


def columns_of(shot: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The columns in which `colour` is what is seen most of."""
    return np.flatnonzero((np.abs(shot - colour).max(axis=2) <= 6).mean(axis=0) > 0.4)


@in_browser
def test_the_slider_divides_before_from_after(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    preview(page)
    middle = screenshot(tmp_path, page)
    red, blue = columns_of(middle, RED), columns_of(middle, BLUE)
    assert len(red) == pytest.approx(len(blue), abs=8)
    assert red.max() < blue.min()

    moved = screenshot(tmp_path, act(page, "for (let i = 0; i < 5; i++) key('ArrowLeft')"))
    assert len(columns_of(moved, RED)) < 0.9 * len(red)
    assert len(columns_of(moved, BLUE)) > 1.1 * len(blue)


@in_browser
def test_keys_pointer_and_buttons_do_what_they_say(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    preview(page, before=plain(3000, 2000, RED), after=plain(3000, 2000, BLUE))
    result = outcome(
        tmp_path,
        page,
        """
        const box = viewer.getBoundingClientRect();
        const at = part => box.left + part * box.width;
        result.start = [split(), zoom()];
        key("ArrowRight"); result.right = split();
        key("ArrowLeft", {shiftKey: true}); result.left = split();
        key("Home"); result.home = split();
        key("ArrowLeft"); result.stops = split();
        key("End"); result.end = [split(), handle.getAttribute("aria-valuenow")];
        pointer(viewer, "pointerdown", at(.25), box.top + 50); result.press = split();
        pointer(viewer, "pointermove", at(.75), box.top + 50); result.drag = split();
        pointer(viewer, "pointerup", at(.75), box.top + 50);
        pointer(viewer, "pointermove", at(.1), box.top + 50); result.released = split();
        click("[value=full]"); result.full = zoom();
        const stage = viewer.querySelector(".stage");
        const before = new DOMMatrix(getComputedStyle(stage).transform);
        pointer(viewer, "pointerdown", at(.5), box.top + 50);
        pointer(viewer, "pointermove", at(.5) + 30, box.top + 70);
        pointer(viewer, "pointerup", at(.5) + 30, box.top + 70);
        const after = new DOMMatrix(getComputedStyle(stage).transform);
        result.pan = [after.e - before.e, after.f - before.f, split()];
        pointer(viewer, "pointerdown", at(.5), box.top + 50);
        pointer(viewer, "pointermove", at(.5) + 1e5, box.top + 1e5);
        const far = new DOMMatrix(getComputedStyle(stage).transform);
        result.edge = [far.e, far.f];
        pointer(viewer, "pointerup", at(.5), box.top + 50);
        pointer(handle, "pointerdown", at(.5), box.top + 50); result.handle = split();
        pointer(viewer, "pointerup", at(.5), box.top + 50);
        click("[value=fit]"); result.fit = zoom();
        """,
    )
    fit = result["start"][1]
    assert result == {
        "start": ["50%", fit],
        "right": "52%",
        "left": "42%",
        "home": "0%",
        "stops": "0%",
        "end": ["100%", "100"],
        "press": "25%",
        "drag": "75%",
        "released": "75%",
        "full": "100 %",
        "pan": [30, 20, "75%"],
        "edge": [0, 0],
        "handle": "50%",
        "fit": fit,
    }
    assert int(fit.split()[0]) < 50


@in_browser
def test_footprint_and_map_appear_when_asked_for(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    preview(page)
    plain_shot = screenshot(tmp_path, page)
    for name in ("footprint", "provenance"):
        result = outcome(
            tmp_path,
            page,
            f"""
            const shown = () => [...document.querySelectorAll(".{name}")].map(
              element => getComputedStyle(element).display !== "none");
            result.before = shown();
            click("[value={name}]"); result.on = shown();
            click("[value={name}]"); result.off = shown();
            """,
        )
        assert result["before"]
        assert not any(result["before"])
        assert all(result["on"])
        assert result["off"] == result["before"]
        shot = screenshot(tmp_path, act(page, f"click('[value={name}]')"))
        assert (np.abs(shot - plain_shot).max(axis=2) > 40).sum() > 1000

    outlined = screenshot(tmp_path, act(page, "click('[value=footprint]'); key('Home')"))
    white = (outlined > 240).all(axis=2)
    blue = columns_of(outlined, BLUE)
    inside = np.flatnonzero(white[:, blue.min() : blue.max()].mean(axis=1) > 0.4)
    assert len(inside) >= 2, "the outline's upper and lower edge"


@in_browser
def test_the_page_loads_nothing_and_may_not(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    crop = Crop("Centre", plain(80, 60, RED), plain(80, 60, GREEN))
    preview(page, crops=[crop])
    script = "result.loaded = performance.getEntriesByType('resource').map(entry => entry.name)"
    loaded = outcome(tmp_path, page, script)["loaded"]
    assert [name for name in loaded if not name.startswith("data:")] == []

    stained = "new Image().src = 'http://127.0.0.1:9/picture.png'"
    refused = complaints(browse(tmp_path, act(page, stained), "--dump-dom"))
    assert any("Content Security Policy" in line for line in refused)

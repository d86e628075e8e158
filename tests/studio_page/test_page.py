"""The studio's page in a real browser: exact frames, marking by keys, saving, training, the network's timeline, correcting."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live_streams import find_free_port
from studio_page.conftest import open_when_ready, serve
from videos import read_index, write_video

pytestmark = pytest.mark.long
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

_READ_LUMA = """() => {
    const still = document.getElementById('still');
    const source = still.hidden ? document.getElementById('video') : still;
    const [width, height] = [source.videoWidth || source.naturalWidth, source.videoHeight || source.naturalHeight];
    if (!width) return [0, 0, []];
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext('2d');
    context.drawImage(source, 0, 0);
    const data = context.getImageData(0, 0, width, height).data;
    const luma = [];
    for (let place = 1; place < data.length; place += 4) luma.push(data[place]);
    return [height, width, luma];
}"""


_PRESS_AT_ONCE = """keys => {
    for (const key of keys) {
        const event = new KeyboardEvent("keydown", { ...key, bubbles: true, cancelable: true });
        document.getElementById("lanes").dispatchEvent(event);
    }
}"""


def _read_shown_index(page: Any) -> int:
    page.wait_for_function(
        "() => !document.getElementById('video').seeking && document.getElementById('still').complete"
    )
    height, width, luma = page.evaluate(_READ_LUMA)
    return read_index(np.array(luma, np.uint8).reshape(height, width)) if height else -1


def _wait_until_shown(page: Any, index: int) -> None:
    """A frame is painted some time after the seek has ended."""
    for _ in range(100):
        if _read_shown_index(page) == index:
            return
        page.wait_for_timeout(200)
    assert _read_shown_index(page) == index


def _press(page: Any, key: str, times: int = 1) -> None:
    for _ in range(times):
        page.keyboard.press(key)


def _open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def _open_video(page: Any, name: str) -> None:
    _open_tab(page, "Videos")
    page.get_by_role("button", name=name).click()
    page.get_by_role("heading", name=name).wait_for()
    page.get_by_text("frame 0").wait_for()


def _add_class(page: Any, name: str) -> None:
    page.get_by_label("Name of a new class").fill(name)
    page.keyboard.press("Enter")
    page.get_by_role("button", name=f"Start {name}").wait_for()
    page.locator("#lanes").focus()


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _wait_until_saved(page: Any) -> None:
    page.wait_for_function("() => document.getElementById('save-state').textContent === 'Saved'")


def test_frames_marks_and_training(page: Any, folder: Path) -> None:
    _mark_by_keys(page, folder)
    _train_and_correct(page, folder)
    _explain(page)
    _find_similar(page, folder)
    _delete_timeline(page)


def _mark_by_keys(page: Any, folder: Path) -> None:
    """Step to frames, mark segments by keys, undo, and find them again after a reload."""
    _open_video(page, "a.mp4")
    _open_tab(page, "Mark")
    for name in ("<b>up</b>", "down"):  # a name is text, not HTML
        _add_class(page, name)
    _press(page, ".", 30)
    page.get_by_text("frame 30").wait_for()
    _wait_until_shown(page, 30)
    _press(page, "1")
    page.get_by_role("button", name="End <b>up</b>").wait_for()
    _press(page, ".", 9)
    page.get_by_text("frame 39").wait_for()
    _press(page, "1")
    page.get_by_role("button", name="<b>up</b> 0:01.200 – 0:01.600").wait_for()
    _press(page, "Shift+2")
    page.get_by_role("button", name="down 0:01.560").wait_for()
    _press(page, ",", 4)
    page.get_by_text("frame 35").wait_for()
    _press(page, "ArrowUp")
    _press(page, "Control+z")
    page.get_by_role("button", name="down 0:01.560").wait_for(state="detached")
    _wait_until_saved(page)
    (row,) = _read_rows(folder / "annotations.csv")
    assert (row["label"], float(row["start_seconds"]), float(row["end_seconds"])) == ("<b>up</b>", 1.2, 1.6)
    _drag_end(page, folder)
    page.reload()
    _open_tab(page, "Mark")
    page.get_by_role("button", name="<b>up</b> 0:01.200").wait_for()


def _drag_end(page: Any, folder: Path) -> None:
    """The end of the segment dragged to about 2 s goes to a border between frames."""
    box = page.locator("#lanes").bounding_box()
    gutter, width = 120, box["width"] - 120
    row = box["y"] + 22 + 12
    page.mouse.move(box["x"] + gutter + width * 1.6 / 8, row)
    page.mouse.down()
    page.mouse.move(box["x"] + gutter + width * 1.9 / 8, row)
    page.mouse.move(box["x"] + gutter + width * 2.003 / 8, row)
    page.mouse.up()
    page.get_by_role("button", name="<b>up</b> 0:01.200 – 0:02.000").wait_for()
    _wait_until_saved(page)
    (row_of_file,) = _read_rows(folder / "annotations.csv")
    assert float(row_of_file["end_seconds"]) == 2.0


def _train_and_correct(page: Any, folder: Path) -> None:
    for video in ("a.mp4", "b.mp4"):
        _open_video(page, video)
        _open_tab(page, "Mark")
        for start in range(4):
            page.keyboard.press("Escape")
            page.locator("#lanes").focus()
            _press(page, "1" if start % 2 else "2")
            _press(page, ".", 10)
            _press(page, "1" if start % 2 else "2")
            page.get_by_text(f"frame {10 * (start + 1)}").wait_for()
            page.wait_for_timeout(300)
        _wait_until_saved(page)
    _train_tiny(page, "first")
    page.get_by_text("train first: done").wait_for(timeout=240_000)
    _open_video(page, "c.mp4")
    _open_tab(page, "Network")
    page.get_by_role("button", name="Run along all videos").click()
    page.locator("#curves canvas").wait_for(timeout=120_000)
    before = len(_read_rows(folder / "annotations.csv"))
    _open_tab(page, "Review")
    page.locator("[role=tabpanel]:not([hidden]) .item").nth(2).wait_for()
    page.locator("#lanes").focus()
    _press(page, "n")
    page.get_by_role("button", name="Accept (a)").wait_for()
    page.locator("#lanes").focus()
    _decide(page, "a")
    _reject_and_change(page)
    rows = _read_rows(folder / "annotations.csv")
    assert len(rows) == before + 2
    origins = [row["origin"] for row in rows]
    assert (origins.count("accepted"), origins.count("changed")) == (1, 1)
    assert _read_rows(folder / "rejected.csv")


_COUNT_COLOURED = """() => {
    const canvas = document.getElementById('evidence');
    if (canvas.hidden) return 0;
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let number = 0;
    for (let place = 3; place < data.length; place += 4) number += data[place] > 0;
    return number;
}"""


def _explain(page: Any) -> None:
    """Why, by its key: colour over the frames that the network saw and a curve of them, until it is hidden."""
    _open_video(page, "c.mp4")
    page.locator("#lanes").focus()
    _press(page, "Escape")
    _press(page, ".", 20)
    page.get_by_text("frame 20").wait_for()
    _open_tab(page, "Network")
    page.locator(
        "[role=tabpanel]:not([hidden]) .item[aria-pressed=true]"
    ).click()  # no timeline: the window at the frame
    page.get_by_role("button", name="Why this frame? (w)").wait_for()
    page.get_by_label("Class", exact=True).select_option("down")
    page.locator("#lanes").focus()
    _press(page, "w")
    page.get_by_text("down by first, ").wait_for(timeout=120_000)
    page.get_by_role("img", name="Evidence along time: down by first").wait_for()
    assert page.evaluate(_COUNT_COLOURED) > 1000
    results = axe.Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    _press(page, "End")
    page.get_by_text("frame 199").wait_for()
    assert page.evaluate(_COUNT_COLOURED) == 0
    page.get_by_role("button", name="Show: why first finds down").click()  # back to where there is most
    page.wait_for_function(f"() => ({_COUNT_COLOURED})() > 1000")
    page.locator("#lanes").focus()
    _press(page, "Escape")
    page.get_by_role("img", name="Evidence along time").wait_for(state="detached")
    assert page.evaluate(_COUNT_COLOURED) == 0


def _find_similar(page: Any, folder: Path) -> None:
    """Index by the network, find windows like a frame, mark one of another video, label all by nearest neighbours."""
    _open_tab(page, "Similar")
    page.locator("[role=tabpanel]:not([hidden]) select").first.select_option(label="first (your run)")
    page.get_by_role("button", name="Make the index").click()
    page.get_by_text("index by first: done").wait_for(timeout=120_000)
    page.get_by_role("button", name="Log: index by first").click()
    page.get_by_text("It printed nothing.").wait_for()
    page.locator("#lanes").focus()
    _press(page, "Escape")
    _press(page, "f")
    page.get_by_text("Most like").wait_for()
    page.get_by_label("Mark windows as").select_option("down")
    before = _count_labels(folder, "down")
    page.locator(".pictured").first.click()
    page.locator(".row:has(.pictured) > button:enabled", has_text="Mark").first.click()
    page.wait_for_timeout(1000)
    assert _count_labels(folder, "down") == before + 1
    page.get_by_role("button", name="Label all videos").click()
    page.get_by_text("labels by nearest neighbours: done").wait_for(timeout=120_000)


def _count_labels(folder: Path, label: str) -> int:
    return sum(label in row["label"].split("|") for row in _read_rows(folder / "annotations.csv"))


def _delete_timeline(page: Any) -> None:
    _open_tab(page, "Network")
    page.get_by_role("button", name="Delete the timeline of nearest neighbours").click()
    page.get_by_role("button", name="Delete the timeline of nearest neighbours").wait_for(state="detached")
    page.get_by_role("button", name="Delete the timeline of first").wait_for()


def _decide(page: Any, key: str) -> None:
    """Press a key that decides on the suggestion shown, and wait for the next one."""
    items = page.locator("[role=tabpanel]:not([hidden]) .item")
    number = items.count()
    _press(page, key)
    page.wait_for_function(
        "number => document.querySelectorAll('[role=tabpanel]:not([hidden]) .item').length < number", arg=number
    )


def _reject_and_change(page: Any) -> None:
    _decide(page, "r")
    _press(page, "c")
    before = page.evaluate("document.activeElement.value")
    _press(page, "ArrowDown")
    if page.evaluate("document.activeElement.value") == before:
        _press(page, "ArrowUp")
    _decide(page, "Enter")


def _train_tiny(page: Any, name: str, epochs: int = 1) -> None:
    _open_tab(page, "Train")
    page.get_by_label("Start from").select_option("")
    page.get_by_text("More settings").click()
    values = {
        "Network, from random weights": "r2plus1d_10",
        "Name of the run": name,
        "Epochs": str(epochs),
        "Clips in a batch": "4",
        "Clips in an epoch": "8",
        "Width of the network": "4",
        "Frames in a clip": "4",
        "Side of the crop": "28",
        "Processes that read videos": "0",
        "Height of frames": "32",
        "Width of frames": "32",
    }
    for label, value in values.items():
        page.get_by_label(label).fill(value)
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_text(f"train {name}: running").wait_for()
    page.locator("#panels .uplot").first.wait_for(timeout=120_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_is_accessible(page: Any, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    for tab in ("Videos", "Mark", "Similar", "Train", "Network", "Review", "Files"):
        _open_tab(page, tab)
        page.wait_for_timeout(300)
        results = axe.Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_video_that_no_browser_plays_is_stepped_exactly(page: Any) -> None:
    _open_video(page, "d.avi")
    page.locator("#lanes").focus()
    _press(page, "ArrowRight", 7)
    page.get_by_text("frame 7").wait_for()
    _wait_until_shown(page, 7)


@pytest.mark.parametrize("name", ["c.mp4", "d.avi"])
def test_keys_add_up_before_the_page_has_answered(page: Any, folder: Path, name: str) -> None:
    """Keys that are pressed faster than frames are found go on from each other, and marks are made where they lead."""
    _open_video(page, name)
    page.evaluate(_PRESS_AT_ONCE, [{"key": "ArrowRight"}] * 7)
    page.get_by_text("frame 7").wait_for()
    page.evaluate(_PRESS_AT_ONCE, [{"key": "ArrowRight", "shiftKey": True}, {"key": "ArrowLeft"}, {"key": "x"}])
    page.get_by_text("frame 31").wait_for()
    _wait_until_shown(page, 31)
    page.evaluate(_PRESS_AT_ONCE, [{"key": "ArrowRight"}] * 4 + [{"key": "x"}])
    page.get_by_text("frame 35").wait_for()
    _wait_until_saved(page)
    row = next(row for row in _read_rows(folder / "reviewed.csv") if row["path"] == name)
    assert (float(row["start_seconds"]), float(row["end_seconds"])) == (1.24, 1.44)


def test_a_video_that_opens_shows_no_frame_of_the_last_one(page: Any) -> None:
    """Until the time stamps of its frames are known, no frame is named and no key is taken."""
    _open_video(page, "b.mp4")
    page.route("**/frames?*", lambda route: None)  # never answered
    page.get_by_role("button", name="c.mp4").click()
    page.get_by_role("heading", name="c.mp4").wait_for()
    page.locator("#screen-note", has_text="Loading…").wait_for()  # lists of weights are loading, too
    assert page.get_by_text("frame 0").count() == 0
    assert page.get_by_role("button", name="+1 frame").is_disabled()


def test_a_video_that_could_not_be_opened_is_opened_when_it_is_asked_for_again(chromium: Any, address: str) -> None:
    page = chromium.new_context().new_page()
    open_when_ready(page, address)
    page.route("**/frames?*", lambda route: route.fulfill(status=503, json={"detail": "busy for now"}), times=1)
    _open_tab(page, "Videos")
    page.get_by_role("button", name="b.mp4").click()
    page.get_by_text("busy for now").wait_for()
    _open_video(page, "b.mp4")
    page.context.close()


def test_of_two_videos_the_one_asked_for_last_is_opened(page: Any) -> None:
    held: list[Any] = []
    page.route("**/video?path=b.mp4", lambda route: held.append(route))
    _open_tab(page, "Videos")
    with page.expect_request("**/video?path=b.mp4"):
        page.get_by_role("button", name="b.mp4").click()
    _open_video(page, "c.mp4")
    with page.expect_response("**/video?path=b.mp4"):
        held[0].continue_()
    page.wait_for_timeout(500)
    assert page.get_by_role("heading", name="c.mp4").is_visible()


def test_a_training_is_stopped_and_resumed(page: Any) -> None:
    _open_tab(page, "Mark")
    _open_video(page, "b.mp4")
    _train_tiny(page, "stopped", epochs=2000)
    page.get_by_role("button", name="Stop: train stopped").click()
    page.get_by_text("train stopped: stopped").wait_for(timeout=120_000)
    page.get_by_role("button", name="Resume: train stopped").click()
    page.get_by_text("train stopped: running").wait_for(timeout=60_000)
    page.get_by_role("button", name="Stop: train stopped").click()
    page.get_by_text("train stopped: stopped").wait_for(timeout=120_000)


def test_an_exported_file_is_imported_again(page: Any, tmp_path: Path) -> None:
    _open_tab(page, "Files")
    page.get_by_label("Format", exact=True).select_option("csv")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    path = tmp_path / "project.csv"
    download.value.save_as(path)
    page.get_by_label("Import a file").set_input_files(path)
    page.get_by_text("Imported: 0 segments, 0 events.").wait_for()  # all are there already


def test_what_happened_while_the_server_was_away_is_read(chromium: Any, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "a.mp4", 50, height=96, width=128)
    page = chromium.new_context().new_page()
    token, port = "0123456789abcdef0123", find_free_port()
    with serve(folder, port, token) as address:
        open_when_ready(page, address)
        _open_tab(page, "Mark")
        _add_class(page, "first")
    row = "a.mp4,second,0.2,0.8,kim\n"
    (folder / "annotations.csv").write_text(f"path,label,start_seconds,end_seconds,annotator\n{row}")
    with serve(folder, port, token):
        page.get_by_role("button", name="second 0:00.200 – 0:00.800").wait_for(timeout=60_000)
        page.get_by_role("button", name="Start second").wait_for()
    page.context.close()


def test_videos_are_added(page: Any, folder: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "new <img src=x>.mp4", 20, height=96, width=128)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    _open_tab(page, "Videos")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add videos").click()
    chooser.value.set_files([tmp_path / "new <img src=x>.mp4", tmp_path / "broken.mp4"])
    page.get_by_text("1 of 2 added.").wait_for()
    page.get_by_text("broken.mp4: the file is damaged").wait_for()
    page.get_by_role("button", name="new <img src=x>.mp4").click()
    page.get_by_role("heading", name="new <img src=x>.mp4").wait_for()
    assert not (folder / "broken.mp4").exists()


def test_two_fingers_zoom_the_timeline(page: Any) -> None:
    """The seconds below two fingers stay below them."""
    _open_video(page, "a.mp4")
    box = page.locator("#lanes").bounding_box()
    left, width, row = box["x"] + 120, box["width"] - 120, box["y"] + 10
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *shares: float) -> None:
        points = [{"x": left + width * share, "y": row, "id": number} for number, share in enumerate(shares)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", 0.45)
    send("touchStart", 0.45, 0.55)
    for spread in (0.1, 0.15, 0.2):
        send("touchMove", 0.5 - spread, 0.5 + spread)
    send("touchEnd")
    page.get_by_text("0:03.000 – 0:05.000").wait_for()  # 8 s, four times as large around the middle

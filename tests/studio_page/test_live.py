"""The page of a stream in a real browser: picture, probabilities, events; accessible, at the width of a desktop and a phone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from muybridge.records import YuvClip
from muybridge.studio.live_page import LivePage

pytestmark = pytest.mark.long
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

HELLO = {"source": "rtsp://camera/<b>stream</b>", "model": "first", "classes": ["<i>up</i>", "down"]}
COUNTS = {
    "num_windows": 1,
    "num_skipped_windows": 3,
    "num_dropped_frames": 17,
    "num_reconnects": 0,
    "num_damaged_frames": 0,
}


def _send_window(live: LivePage, second: int) -> None:
    classes = [{"label": "<i>up</i>", "probability": 0.75}, {"label": "down", "probability": 0.25}]
    bounds = {"start_seconds": second, "end_seconds": second + 1, "delay_seconds": 0.123}
    live.add({"type": "window", **bounds, "classes": classes, **COUNTS})


def test_a_stream_is_shown(chromium: Any) -> None:
    with LivePage(0, HELLO) as live:
        page = chromium.new_context(viewport={"width": 1280, "height": 860}).new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.goto(live.address)
        page.get_by_role("heading", name="rtsp://camera/<b>stream</b>, by first").wait_for()
        for second in range(3):
            _send_window(live, second)
        live.add({"type": "event", "kind": "start", "label": "<i>up</i>", "seconds": 1.5, "probability": 0.75})
        page.get_by_text("<i>up</i> begins 0:01.5, 75 %").wait_for()
        page.get_by_text("123 ms").wait_for()
        # After the lines have arrived: a page misses pictures while lines wait.
        live.add_picture(
            YuvClip(np.full((1, 128, 171), 120, np.uint8), np.full((2, 1, 64, 86), 128, np.uint8), "bt601", False), 1.5
        )
        page.locator("#live-curves canvas").wait_for()
        page.wait_for_function("() => document.getElementById('live-picture').naturalWidth === 432")
        for width, scheme in ((1280, "light"), (390, "dark")):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme=scheme)
            results = axe.Axe().run(page)
            assert results.violations_count == 0, results.generate_report()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        live.add({"type": "summary", **COUNTS, "median_delay_seconds": 0.1, "max_delay_seconds": 0.2})
        page.get_by_text("The stream has ended.").wait_for()
        page.context.close()
    assert problems == []

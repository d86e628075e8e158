"""The page's time stamps of frames alone, in Chromium, before a server that fails once."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

import muybridge.studio

pytestmark = pytest.mark.long
_MODULE = Path(muybridge.studio.__file__).with_name("page") / "js" / "frames.js"


def test_time_stamps_that_could_not_be_read_are_asked_for_again(blank: Any) -> None:
    script = """async (module) => {
        const { FrameTimes } = await import("data:text/javascript;base64," + module);
        let isBusy = false;
        const api = {
          async get(name, { start_index, count }) {
            if (isBusy) throw new Error("busy");
            const seconds = Array.from({ length: count }, (_, place) => (start_index + place) / 25);
            return { num_frames: 4000, duration_seconds: 160, seconds };
          },
        };
        const frames = await new FrameTimes(api, "a.mp4").load();
        isBusy = true;
        const failure = await frames.secondsOf(3000).catch((error) => error.message);
        await new Promise((resolve) => setTimeout(resolve, 50)); // the browser tells of what nobody caught
        isBusy = false;
        return [failure, await frames.secondsOf(3000)];
    }"""
    assert blank.evaluate(script, base64.b64encode(_MODULE.read_bytes()).decode()) == ["busy", 120]

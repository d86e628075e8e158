"""The page's store of marks alone, in Chromium, before a server whose answers come late, in another order, or not at all."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

import muybridge.studio

pytestmark = pytest.mark.long
_MODULE = Path(muybridge.studio.__file__).with_name("page") / "js" / "marks.js"
# A server with revisions as `AnnotationStore`. `hold(method, path)` keeps answers of it back until `release` is called.
_SERVER = """
    const { Marks } = await import("data:text/javascript;base64,MODULE");
    const wait = (milliseconds = 30) => new Promise((resolve) => setTimeout(resolve, milliseconds));
    const copy = (document) => structuredClone(document);
    const fail = (status) => Object.assign(new Error(`status ${status}`), { status });
    const held = new Map();
    const stored = {};
    const failures = []; // statuses of the next requests to store
    const read = (path) => (stored[path] ??= { path, revision: "0", segments: [], events: [], reviewed: [], rejected: [] });
    const hold = (method, path) => {
      let release;
      held.set(`${method} ${path}`, new Promise((resolve) => (release = resolve)));
      return () => (held.delete(`${method} ${path}`), release(), wait());
    };
    const api = {
      async get(name, { path }) {
        const answer = copy(read(path));
        await held.get(`GET ${path}`);
        return answer;
      },
      async put(name, { path }, body) {
        if (failures.length) throw fail(failures.shift());
        if (body.path !== path) throw fail(400);
        if (body.revision !== read(path).revision) throw fail(409);
        const answer = (stored[path] = { ...copy(body), revision: String(Number(body.revision) + 1) });
        await held.get(`PUT ${path}`);
        return copy(answer);
      },
    };
    const labels = (path) => read(path).segments.map((one) => one.label).join(" ");
    const notices = [];
    const marks = new Marks();
    marks.annotator = "kim";
    marks.addEventListener("failure", (event) => notices.push(event.detail));
    const shown = () => marks.document.segments.map((one) => one.label).join(" ");
"""


def _run(page: Any, script: str) -> Any:
    """What a script returns that marks in the page's store before the server."""
    module = base64.b64encode(_MODULE.read_bytes()).decode()
    return page.evaluate("async () => {" + _SERVER.replace("MODULE", module) + script + "}")


def test_a_mark_made_while_the_marks_are_read_again_is_kept(blank: Any) -> None:
    """An event of an earlier save comes when the page has gone on: neither the marks after it nor Undo are lost."""
    script = """
        await marks.load(api, "a.mp4");
        marks.addSegment("one", 0, 1);
        await marks.flush();
        const { revision } = marks.document;
        marks.addSegment("two", 1, 2);
        await marks.flush();
        await marks.reload(revision);
        const steps = marks.past.length;
        const release = hold("GET", "a.mp4");
        marks.reload(revision);
        await wait();
        marks.addSegment("three", 2, 3);
        await release();
        marks.addSegment("four", 3, 4);
        await marks.flush();
        return [steps, labels("a.mp4"), shown(), marks.past.length, notices];
    """
    assert _run(blank, script) == [2, "one two three four", "one two three four", 4, []]


def test_what_another_tab_stored_is_shown_also_when_it_is_told_during_a_save(blank: Any) -> None:
    script = """
        await marks.load(api, "a.mp4");
        const release = hold("PUT", "a.mp4");
        marks.addSegment("mine", 0, 1);
        await wait();
        const theirs = { ...read("a.mp4").segments[0], label: "theirs" };
        stored["a.mp4"] = { ...read("a.mp4"), revision: "2", segments: [...read("a.mp4").segments, theirs] };
        marks.reload("2");
        await release();
        return shown();
    """
    assert _run(blank, script) == "mine theirs"


def test_marks_are_of_the_video_opened_last(blank: Any) -> None:
    script = """
        const release = hold("GET", "b.mp4");
        marks.load(api, "b.mp4");
        await wait();
        marks.addSegment("too early", 0, 1);
        await marks.load(api, "c.mp4");
        await release();
        marks.addSegment("seen in c", 0, 1);
        await marks.flush();
        return [marks.path, labels("b.mp4"), labels("c.mp4"), notices];
    """
    notice = "The marks of this video are not loaded yet; mark it again in a moment."
    assert _run(blank, script) == ["c.mp4", "", "seen in c", [notice]]


@pytest.mark.parametrize("status", [None, 408, 429, 503])
def test_what_a_busy_server_did_not_store_is_sent_again(blank: Any, status: int | None) -> None:
    script = f"""
        await marks.load(api, "a.mp4");
        marks.addSegment("one", 0, 1);
        await marks.flush();
        failures.push({"undefined" if status is None else status});
        marks.addSegment("two", 1, 2);
        await marks.flush();
        const now = [labels("a.mp4"), shown(), marks.isDirty];
        await wait(3500);
        return [now, [labels("a.mp4"), shown(), marks.isDirty], marks.past.length, notices.length];
    """
    assert _run(blank, script) == [["one", "one two", True], ["one two", "one two", False], 2, 1]


def test_what_cannot_be_stored_for_now_is_kept_and_sent_with_the_next_change(blank: Any) -> None:
    """A file of annotations that a person is editing is refused by 400."""
    script = """
        await marks.load(api, "a.mp4");
        failures.push(400);
        marks.addSegment("one", 0, 1);
        await marks.flush();
        const now = [labels("a.mp4"), shown(), marks.isDirty];
        marks.addSegment("two", 1, 2);
        await marks.flush();
        return [now, [labels("a.mp4"), shown(), marks.isDirty]];
    """
    assert _run(blank, script) == [["", "one", True], ["one two", "one two", False]]


@pytest.mark.parametrize("status", [409, 422])
def test_what_is_refused_is_dropped_once_what_is_stored_was_read(blank: Any, status: int) -> None:
    script = f"""
        await marks.load(api, "a.mp4");
        failures.push({status}, {status});
        const {{ get }} = api;
        api.get = async () => {{ throw fail(503); }};
        marks.addSegment("one", 0, 1);
        await marks.flush();
        const now = [shown(), marks.isDirty];
        api.get = get;
        await wait(3500);
        return [now, [shown(), marks.isDirty]];
    """
    assert _run(blank, script) == [["one", True], ["", False]]


@pytest.mark.parametrize("order", ["", ".reverse()"])
def test_what_is_marked_by_keys_contains_both_frames_in_either_order(blank: Any, order: str) -> None:
    script = f"""
        await marks.load(api, "a.mp4");
        for (const frame of [[0.2, 0.24], [0.4, 0.44]]{order}) {{
          marks.toggle("walk", frame);
          marks.toggleReview(frame);
        }}
        return [marks.document.segments, marks.document.reviewed].map(([one]) => [one.start_seconds, one.end_seconds]);
    """
    assert _run(blank, script) == [[0.2, 0.44], [0.2, 0.44]]


def test_a_mark_that_is_stored_while_it_is_dragged_is_changed(blank: Any) -> None:
    script = """
        await marks.load(api, "a.mp4");
        marks.addSegment("one", 0, 1);
        const [dragged] = marks.document.segments;
        await marks.flush();
        marks.revise(dragged, { end_seconds: 2 });
        await marks.flush();
        const ends = read("a.mp4").segments.map((one) => one.end_seconds);
        marks.revise(dragged, { end_seconds: 3 }); // there is no such mark any more
        return [ends, marks.selected.end_seconds, marks.past.length];
    """
    assert _run(blank, script) == [[2], 2, 2]

"""`muybridge similar`: windows like a given one, and labels by nearest neighbours, from features alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from annotated_types import Interval

from muybridge.cli.output import print_json
from muybridge.files.atomic import check_not_input, check_output_file, is_stream, write_text
from muybridge.terminal import print_line, print_lines
from muybridge.text import format_count

if TYPE_CHECKING:
    from muybridge.prediction.feature_index import FeatureIndex


def similar(
    features: str,
    query: str | None = None,
    *,
    top: Annotated[int, Interval(ge=1, le=100_000)] | None = None,
    labels: str | None = None,
    neighbors: Annotated[int, Interval(ge=1, le=1000)] | None = None,
    output: str | None = None,
    json: bool = False,
) -> int:
    """Finds windows that look like a given one, in the features of videos; no training is needed.

    With --labels, a list of labelled segments in these videos, every window of every video gets the class that most of its
    nearest labelled windows have, and the segments are written as a list: a first draft of annotations.

    Args:
        features: A file of `muybridge extract RUN VIDEOS --step N`.
        query: The part of a video to search for, match.mp4#10-12, or a whole video.
        top: How many windows to name (default: 20).
        labels: A list of labelled segments (path, label, start_seconds, end_seconds); instead of QUERY.
        neighbors: With --labels: how many labelled windows vote (default: 5).
        output: With --labels: the CSV file to write.
        json: Print JSON.

    Examples:
        muybridge similar features.parquet videos/match.mp4#10-12
        muybridge similar features.parquet --labels videos/annotations.csv -o draft.csv
    """
    if (query is None) == (labels is None):
        raise ValueError("name a QUERY such as match.mp4#10-12 to find more of, or --labels to spread; one of the two")
    if (output is None) != (labels is None):
        raise ValueError("-o is the list that --labels makes; give both or neither")
    if labels and top is not None:
        raise ValueError("--top is for the windows like a QUERY; leave it out with --labels")
    if neighbors is not None and not labels:
        raise ValueError("--neighbors is for --labels; add it, or leave --neighbors out")
    if output:
        check_output_file(Path(output), (".csv",))
        check_not_input(Path(output), [features, labels])

    from muybridge.evaluation.scores import read_remarks
    from muybridge.prediction.similar import read_feature_index

    index = read_feature_index(features)
    print_lines(read_remarks(Path(features)), error=True)
    if labels and output:
        return _spread_labels(index, labels, output, neighbors or 5, json=json)
    assert query is not None
    matches = index.find_similar(index.find_rows(query), top=top or 20)
    if not matches:
        print_line(f"the index has no windows but those of {query}", error=True)
    if json:
        print_json([asdict(match) for match in matches])
    else:
        print_lines(
            f"{match.similarity:6.3f}  {match.start_seconds:8.2f} - {match.end_seconds:8.2f} s  {match.video}"
            for match in matches
        )
    return 0


def _spread_labels(index: FeatureIndex, labels: str, output: str, neighbors: int, *, json: bool) -> int:
    from muybridge.prediction.feature_index import spread_labels
    from muybridge.prediction.similar import read_labeled_segments, segments_to_list

    segments, notes = read_labeled_segments(Path(labels), index)
    print_lines(notes, error=True)
    drafts = spread_labels(index, segments, num_neighbors=neighbors)
    write_text(Path(output), segments_to_list(drafts, Path() if is_stream(Path(output)) else Path(output).parent))
    num_segments = sum(map(len, drafts.values()))
    if json:
        print_json({"output": output, "num_segments": num_segments, "num_videos": len(drafts)})
    else:
        summary = f"{format_count(num_segments, 'segment')} of {format_count(len(drafts), 'video')}: {output}"
        print_line(summary, error=is_stream(Path(output)))
    return 0

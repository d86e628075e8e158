"""Search for windows like a given one among many: exact cosine similarity, beside the matrix-vector product it cannot beat.

    python benchmarks/similar.py [--rows 1000000] [--features 512]

Random features of length 1 in 500 videos. Prints the median of five searches, of the product alone, and whether both agree.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from muybridge.prediction.feature_index import FeatureIndex

NUM_VIDEOS, NUM_SEARCHES, TOP = 500, 5, 20


def build_index(num_rows: int, num_features: int) -> FeatureIndex:
    """Windows a sixth of a second apart."""
    features_nd = np.random.default_rng(0).standard_normal((num_rows, num_features), dtype=np.float32)
    features_nd /= np.linalg.norm(features_nd, axis=1, keepdims=True)
    per_video = num_rows // NUM_VIDEOS
    starts = np.tile(np.arange(per_video) / 6, NUM_VIDEOS)
    videos = np.repeat(np.arange(NUM_VIDEOS, dtype=np.int32), per_video)
    names = tuple(f"{number}.mp4" for number in range(NUM_VIDEOS))
    return FeatureIndex(names, videos, starts, starts + 0.6, features_nd[: len(starts)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=512)
    args = parser.parse_args()
    index = build_index(args.rows, args.features)
    searches, products, agreed = [], [], 0
    for query in range(5, 5 + NUM_SEARCHES):
        start = time.perf_counter()
        found = index.find_similar(np.array([query]), top=TOP)
        searches.append(time.perf_counter() - start)
        start = time.perf_counter()
        similarities = index.features_nd @ index.features_nd[query]
        products.append(time.perf_counter() - start)
        is_other = index.video_indices != index.video_indices[query]  # its own video has neighbours that are left out
        nearest = int(np.flatnonzero(is_other)[similarities[is_other].argmax()])
        names = {(window.video, window.start_seconds) for window in found}
        agreed += (index.videos[index.video_indices[nearest]], index.start_seconds[nearest]) in names
    print(f"{len(index.features_nd)} windows of {args.features} features, the {TOP} nearest")
    print(f"search {statistics.median(searches):.2f} s, the product alone {statistics.median(products):.2f} s")
    print(f"the nearest window of another video is among them in {agreed} of {NUM_SEARCHES}")


if __name__ == "__main__":
    main()

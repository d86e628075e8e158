"""Fuzz one reader for some seconds: `python tests/fuzz/fuzz.py videos 60 FOLDER`. Ends with 0, or with a fault's traceback.

FOLDER keeps what was found: the corpus, from which the next run goes on, and an input of every fault as `crash-*`,
`timeout-*` or `oom-*`. `python tests/fuzz/fuzz.py videos INPUT` reads one such input again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(include=["muybridge", "pickle", "zipfile", "tarfile"]):
    from fuzz_readers import READERS, make_corpus, read_input

MAX_SECONDS, MAX_MEGABYTES, MAX_INPUT_BYTES = 20, 2500, 1 << 16


def main() -> None:
    """Run libFuzzer, which ends the process."""
    reader, folder = READERS[sys.argv[1]], Path(sys.argv[-1])
    work = Path(tempfile.mkdtemp(prefix="muybridge-fuzz-"))
    corpus = make_corpus(reader, work)
    if folder.is_file():
        print(read_input(reader, folder.read_bytes(), work))
        return
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(corpus):
        (folder / "corpus" / f"seed-{number}").write_bytes(content)
        read_input(reader, content, work)

    def test_one_input(data: bytes) -> None:
        if data:
            read_input(reader, data, work)

    options = [
        f"-max_total_time={sys.argv[2]}",
        f"-timeout={MAX_SECONDS}",
        f"-rss_limit_mb={MAX_MEGABYTES}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], str(folder / "corpus"), *options], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

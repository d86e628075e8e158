"""Whatever bytes a file holds, reading it ends in a value or in a sentence: fuzzing for minutes, or hours."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz_readers import READERS, make_corpus, read_input
from scripts import ROOT, make_environment

NUM_MUTATIONS = 20  # of each seed, in every run of the tests


def mutate(data: bytes, draws: random.Random) -> bytes:
    """Some bytes changed, doubled, cut out or cut off."""
    changed = bytearray(data)
    for _ in range(draws.randrange(1, 5)):
        place = draws.randrange(1, max(2, len(changed)))
        match draws.randrange(4):
            case 0:
                changed[place : place + 1] = draws.randbytes(1)
            case 1:
                changed[place : place + 4] = draws.choice(
                    (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1")
                )
            case 2:
                changed[place:place] = changed[place : place + draws.randrange(1, 40)]
            case 3:
                del changed[place : place + draws.choice((1, 9, 100, len(changed)))]
    return bytes(changed)


@pytest.mark.parametrize("name", READERS)
def test_the_corpus_is_read_and_its_mutations_are_answered(name: str, tmp_path: Path) -> None:
    reader, draws = READERS[name], random.Random(name)
    (tmp_path / "seeds").mkdir()
    corpus = make_corpus(reader, tmp_path / "seeds")
    assert "ok" in [read_input(reader, seed, tmp_path) for seed in corpus], "a reader that reads nothing tests nothing"
    for seed in corpus:
        for _ in range(NUM_MUTATIONS):
            read_input(reader, mutate(seed, draws), tmp_path)


def fuzz(name: str, seconds: int, folder: Path) -> None:
    """Run the fuzzer in a process of its own, which libFuzzer ends."""
    pytest.importorskip("atheris", reason="the fuzzer is installed by `make test-long`")
    line = [sys.executable, str(Path(__file__).with_name("fuzz.py")), name, str(seconds), str(folder)]
    ended = subprocess.run(
        line, env=make_environment(ROOT / "src"), capture_output=True, text=True, errors="replace", check=False
    )
    inputs = [path for path in folder.glob("*-*") if path.is_file()]
    assert ended.returncode == 0, f"{' '.join(map(str, inputs))}\n{ended.stdout[-1000:]}\n{ended.stderr[-6000:]}"


@pytest.mark.long
@pytest.mark.parametrize("name", READERS)
def test_readers_withstand_two_minutes(name: str, tmp_path: Path) -> None:
    fuzz(name, 120 // len(READERS), tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", READERS)
def test_a_reader_withstands_ten_minutes(name: str) -> None:
    """From what earlier runs found on: build/fuzz keeps the corpus, and an input of every fault."""
    folder = ROOT / "build" / "fuzz" / name
    folder.mkdir(parents=True, exist_ok=True)
    fuzz(name, 600, folder)

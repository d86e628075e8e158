"""Generated blocks of the documentation: text between `<!-- NAME -->` and `<!-- end of NAME -->`."""

from pathlib import Path


def read_block(page: Path, name: str) -> str:
    """The text of a block, without its marks. ValueError where the page has none."""
    return _split(page, name)[1].strip()


def replace_block(page: Path, name: str, text: str) -> None:
    """Replaces the text of a block."""
    before, _, after = _split(page, name)
    page.write_text(f"{before}\n{text.strip()}\n\n{after}", encoding="utf-8")


def _split(page: Path, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{page} has no block {name}; write {begin.strip()} and {end.strip()} on lines of their own")
    before, rest = text.split(begin)
    block, after = rest.split(end)
    return before + begin, block, end.lstrip("\n") + after

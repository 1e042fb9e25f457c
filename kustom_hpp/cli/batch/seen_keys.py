"""The keys of an input: what distinguishes a repeated row from a new one."""

import hashlib


class SeenKeys:
    """Texts, each with the line where it appeared first.

    It stores digests, about 120 bytes a text however long the text is.
    """

    def __init__(self) -> None:
        self._lines: dict[bytes, int] = {}

    def first_line(self, text: str, line: int) -> int:
        """Return the line where a text appeared first: `line` itself for a new one."""
        # 15 bytes: two texts of a billion rows share a digest with a probability of 1e-18.
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=15).digest()
        return self._lines.setdefault(digest, line)

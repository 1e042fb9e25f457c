"""What a section found, and how it is shown: the peer, the ratio, the target, and whether it was reached."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure and its target."""

    what: str
    peer: str = ""
    """What it is compared with; empty where it stands alone."""
    value: float
    unit: str = "x"
    spread: tuple[float, float] | None = None
    """The first and the third quartile."""
    at_most: float | None = None
    """The target, where less is better."""
    at_least: float | None = None
    """The target, where more is better."""
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the target was reached; None where there is none."""
        if self.at_most is not None:
            return self.value <= self.at_most
        if self.at_least is not None:
            return self.value >= self.at_least
        return None

    def plain(self) -> dict[str, Any]:
        """The figure as plain JSON values."""
        return asdict(self) | {"reached": self.reached}

    def cells(self) -> list[str]:
        """The figure as a line of the table."""
        spread = f"{self.spread[0]:.2f} .. {self.spread[1]:.2f}" if self.spread else ""
        target = ""
        if self.at_most is not None:
            target = f"at most {self.at_most:g}"
        elif self.at_least is not None:
            target = f"at least {self.at_least:g}"
        verdict = {True: "yes", False: "NO", None: "-"}[self.reached]
        return [self.what, self.peer, f"{self.value:.2f} {self.unit}", spread, target, verdict, self.note]


@dataclass(frozen=True)
class Section:
    """The figures of one benchmark."""

    name: str
    about: str
    figures: list[Figure] = field(default_factory=list)
    skipped: str = ""
    """Why there are no figures, and what to do about it."""

    @property
    def missed(self) -> bool:
        """Whether a target was not reached; not to have measured is not to have reached."""
        return bool(self.skipped) or any(figure.reached is False for figure in self.figures)

    def plain(self) -> dict[str, Any]:
        """The section as plain JSON values."""
        figures = [figure.plain() for figure in self.figures]
        return {"name": self.name, "about": self.about, "figures": figures, "skipped": self.skipped}

    def text(self) -> str:
        """The section as a table."""
        lines = [f"== {self.name}: {self.about}"]
        if self.skipped:
            lines.append(f"not measured: {self.skipped}")
        if self.figures:
            heads = ["what", "peer", "figure", "quartiles", "target", "reached", ""]
            lines += table([heads, *(figure.cells() for figure in self.figures)])
        return "\n".join(lines)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their columns under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

"""How rows flow through a run: the arguments that are numbers, checked."""

from attrs import frozen

from kustom_hpp.errors import ConfigError

_MOST = 1e9


@frozen(kw_only=True)
class Flow:
    """How rows flow through a run.

    Raises:
        ConfigError: a number cannot work.

    """

    concurrency: int
    rate: float | None
    ordered: bool
    max_failures: int | None
    max_doubts: int
    patience: float

    def __attrs_post_init__(self) -> None:
        _check_whole("concurrency", self.concurrency)
        _check_whole("max_doubts", self.max_doubts)
        if self.max_failures is not None:
            _check_whole("max_failures", self.max_failures)
        _check_number("patience", self.patience, "seconds")
        if self.rate is not None:
            _check_number("rate", self.rate, "rows per second")

    @property
    def spacing(self) -> float:
        """Seconds between two rows; 0 where nothing holds them back."""
        return 1 / self.rate if self.rate else 0.0


def _check_whole(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        msg = f"{name} must be a whole number from 1, got {value!r}"
        raise ConfigError(msg)


def _check_number(name: str, value: object, unit: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value <= _MOST:  # type: ignore[operator]
        msg = f"{name} must be a number above 0, in {unit}, got {value!r}"
        raise ConfigError(msg)

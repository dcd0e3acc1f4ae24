"""Reads JSON that nobody vouches for: every field is of the kind that it has to be, or named."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from infopt.errors import BaselineError

_Kind = TypeVar("_Kind")
_MOST_BYTES = 16 << 20  # a baseline is some kilobytes of text; more is hostile
_MOST_SHOWN = 60
_LARGEST = 1e300  # an integer of JSON may be larger than any float


@dataclasses.dataclass(frozen=True)
class Part:
    """An object of a JSON document, and where it stands in it."""

    file: Path
    place: str
    """As in ``facts.speed``; empty for the whole."""
    document: dict[str, Any]

    def wrong(self, name: str, wanted: str) -> BaselineError:
        """The error that says which field must be what."""
        where = f"{self.place}.{name}" if self.place else name
        return BaselineError(
            f"{self.file}: {where} must {wanted}; mend it, or take the baseline again with "
            "`infopt baseline`"
        )

    def names(self) -> tuple[str, ...]:
        """The names of all fields."""
        return tuple(self.document)

    def text(self, name: str) -> str:
        """A field that is a string."""
        return self._of(name, str, "be a string")

    def flag(self, name: str) -> bool:
        """A field that is true or false."""
        return self._of(name, bool, "be true or false")

    def choice(self, name: str, known: Sequence[str]) -> str:
        """A field that is one of these strings."""
        found = self.text(name)
        if found not in known:
            raise self.wrong(name, f"be one of {', '.join(known)}, not {_shown(found)}")
        return found

    def whole(self, name: str, *, least: int = 0, most: int = 2**63) -> int:
        """A field that is a whole number within bounds."""
        found = self._of(name, int, "be a whole number")
        if isinstance(found, bool) or not least <= found <= most:
            raise self.wrong(name, f"be a whole number from {least} to {most}, not {_shown(found)}")
        return found

    def number(
        self,
        name: str,
        *,
        least: float = -math.inf,
        most: float = math.inf,
        endless: bool = False,
    ) -> float:
        """A field that is a number within bounds; ``"inf"`` and ``"-inf"`` where ``endless``."""
        found = self.document.get(name)
        if endless and found in ("inf", "-inf"):
            return float(found)
        if not isinstance(found, (int, float)) or isinstance(found, bool):
            raise self.wrong(name, f"be a number, not {_shown(found)}")
        if not least <= found <= most or abs(found) > _LARGEST:
            bounds = f" from {least:g} to {most:g}" if math.isfinite(least) else ""
            raise self.wrong(name, f"be a number{bounds}, not {_shown(found)}")
        return float(found)

    def listed(self, name: str) -> list[Any]:
        """A field that is a list."""
        return self._of(name, list, "be a list")

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that is a list of strings."""
        found = self.listed(name)
        if not all(isinstance(item, str) for item in found):
            raise self.wrong(name, "be a list of strings")
        return tuple(found)

    def part(self, name: str) -> Part:
        """A field that is an object."""
        found = self._of(name, dict, "be an object")
        return Part(self.file, f"{self.place}.{name}" if self.place else name, found)

    def maybe(self, name: str) -> Part | None:
        """A field that is an object, or null."""
        if name in self.document and self.document[name] is None:
            return None
        return self.part(name)

    def parts(self, name: str) -> list[Part]:
        """A field that is a list of objects."""
        found = self.listed(name)
        if not all(isinstance(item, dict) for item in found):
            raise self.wrong(name, "be a list of objects")
        place = f"{self.place}.{name}" if self.place else name
        return [Part(self.file, f"{place}[{i}]", item) for i, item in enumerate(found)]

    def _of(self, name: str, kind: type[_Kind], wanted: str) -> _Kind:
        if name not in self.document:
            raise self.wrong(name, f"{wanted}, and it is missing")
        found = self.document[name]
        if not isinstance(found, kind):
            raise self.wrong(name, f"{wanted}, not {_shown(found)}")
        return found


def parse(file: Path) -> Part:
    """The object that a JSON file holds.

    Raises:
        BaselineError: There is no such file, or it holds something else.
    """
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise BaselineError(f"{file} is larger than any baseline; do not use it")
        document = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise BaselineError(
            f"the baseline {file} cannot be read: {error.strerror}; `infopt baseline` takes one"
        ) from None
    except (ValueError, RecursionError) as error:
        raise BaselineError(
            f"{file} is not valid JSON ({error}); take the baseline again"
        ) from None
    if not isinstance(document, dict):
        raise BaselineError(f"{file} holds no JSON object; take the baseline again")
    return Part(file, "", document)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"

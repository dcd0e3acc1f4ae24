"""The plan of an engine and the facts beside it: they are checked before it is native code.

``engine.json`` says what ``engine.plan`` was built with and for. The manifest holds the digests of
both; this file holds that of the plan once more, so that the bytes that are handed to TensorRT are
the very bytes that were compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infopt.engine import PLAN_FILE
from infopt.errors import EngineError
from infopt.ir.digest import file_digest
from infopt.target import Target

FACTS_FILE = "engine.json"
_MOST = 1 << 20  # facts are text of some kilobytes; more is hostile


def write_facts(directory: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the facts of the plan in ``directory``, its size and digest among them."""
    plan = directory / PLAN_FILE
    complete = {**facts, "plan": {"bytes": plan.stat().st_size, "sha256": file_digest(plan)}}
    text = json.dumps(complete, indent=2, ensure_ascii=False) + "\n"
    (directory / FACTS_FILE).write_text(text, encoding="utf-8")
    return complete


def read_facts(directory: Path) -> dict[str, Any]:
    """The facts of the plan in ``directory``.

    Raises:
        EngineError: There are none, or they are malformed.
    """
    file = directory / FACTS_FILE
    try:
        if file.stat().st_size > _MOST:
            raise EngineError(f"{file} is larger than any facts of a plan; do not use it")
        facts = json.loads(file.read_text(encoding="utf-8"))
        fields = (facts["runtime"], facts["version"], facts["plan"]["sha256"])
        if not all(isinstance(field, str) for field in (*fields, *facts["capabilities"])):
            raise TypeError("a field of it is no string")
    except OSError as error:
        raise EngineError(f"{file} cannot be read ({error.strerror}); build it again") from None
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise EngineError(f"{file} is malformed ({error}); build the engine again") from None
    return dict(facts)


def check_version(facts: Mapping[str, Any], target: Target, installed: str) -> None:
    """Refuse a plan of another TensorRT.

    Raises:
        EngineError: The installed version does not run it.
    """
    built, later = facts["version"], _numbers(installed) > _numbers(facts["version"])
    compatible = bool(facts.get("options", {}).get("version_compatible")) and later
    if facts["runtime"] != target.runtime or (built != installed and not compatible):
        raise EngineError(
            f"the engine was built with {facts['runtime']} {built}, here is {target.runtime} "
            f"{installed}, which does not run it; build it again, or install that version"
        )


def check_capability(facts: Mapping[str, Any], capability: str) -> None:
    """Refuse a plan for other GPUs than the one here.

    Raises:
        EngineError: It is for other compute capabilities.
    """
    meant = facts["capabilities"]
    if meant and capability not in meant:
        raise EngineError(
            f"the engine was built for {', '.join(meant)}, the GPU here is {capability}; "
            "build it again for this one"
        )


def read_plan(directory: Path, facts: Mapping[str, Any]) -> bytes:
    """The plan, after its digest has been compared.

    Raises:
        EngineError: It is not the plan that was built.
    """
    file = directory / PLAN_FILE
    try:
        plan = file.read_bytes()
    except OSError as error:
        raise EngineError(f"{file} cannot be read ({error.strerror}); build it again") from None
    if f"sha256:{hashlib.sha256(plan).hexdigest()}" != facts["plan"]["sha256"]:
        raise EngineError(f"{file} is not the plan that was built; build the engine again")
    return plan


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())

"""Options of a run, among those of the build."""

import pytest

from infopt.backends.tensorrt.options import BuildOptions
from infopt.backends.tensorrt.settings import Settings, parse
from infopt.errors import UsageError


def test_both_kinds_stand_side_by_side() -> None:
    given = {
        "workspace": "1GiB",
        "contexts": "4",
        "cuda_graphs": "on",
        "graph_cache": "3",
        "weight_streaming_budget": "2GiB",
        "specialization": "eager",
    }
    assert parse(given) == (
        BuildOptions(workspace=1 << 30),
        Settings(4, "on", 3, 2 << 30, "eager"),
    )
    assert parse({}) == (BuildOptions(), Settings())


@pytest.mark.parametrize(("text", "budget"), [("auto", "auto"), ("0", 0), ("5MB", 5_000_000)])
def test_a_budget(text: str, budget: int | str) -> None:
    assert parse({"weight_streaming_budget": text})[1].weight_streaming_budget == budget


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("contexts", "0", "write 1 to 64"),
        ("contexts", "many", "write 1 to 64"),
        ("graph_cache", "65", "write 1 to 64"),
        ("cuda_graphs", "yes", "it is one of auto, on, off"),
        ("specialization", "soon", "it is one of lazy, eager, none"),
        ("weight_streaming_budget", "lots", "write weight_streaming_budget=4GiB"),
        (
            "context",
            "2",
            "no option 'context'; did you mean 'contexts'.*known: workspace, .*contexts",
        ),
    ],
)
def test_what_is_not_understood(name: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse({name: text})

from benchmarks.sidebyside.plots import panels
from tests.benchmarks.sidebyside.results import model, peer, results


def test_a_panel_is_a_model_at_its_first_size() -> None:
    found = results(
        model("MiniLM", ORT_default=peer(a=1.0, b=1.0), infopt=peer(a=1.5)),
        {"model": "BERT", "failed": "no time"},
    )
    ((title, points),) = panels(found, 1)
    assert title == "MiniLM, 64 tokens × 1"
    assert [(form.peer.name, form.speed) for form in points] == [
        ("ORT default", 1.0),
        ("infopt", 1.5),
    ]
    ((_, points),) = panels(found, 8)
    assert [form.peer.name for form in points] == ["ORT default"]
    assert panels(found, 32) == []

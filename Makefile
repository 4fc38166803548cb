# Everything is done through .venv, which is made by the first target that needs it. Every path is
# relative, so that the folder may lie under a path with spaces. `make` lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup repro tutorial fast accurate draw results test faults audit lint bench pages doctor lock clean

# PYTHON=/path/to/python names the Python to make .venv from; doctor reads it. ARGS goes to the
# command that the target is about: `make fast ARGS="-n fast-1 -S train.seed=1"`.
export PYTHON
PYTHON ?=
ARGS ?=

# In recipes .venv comes first on PATH: the commands in dvc.yaml then find its python.
IN_VENV = PATH="$(CURDIR)/.venv/bin:$$PATH" VIRTUAL_ENV="$(CURDIR)/.venv"
PIP_INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check \
	--require-hashes --no-deps --no-build-isolation --use-pep517

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
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; done

repro: setup .venv/.core ## run the pipeline, as far as something changed, and print the score
	@$(IN_VENV) dvc repro
	@$(IN_VENV) python -m stages.tools.score
	@$(IN_VENV) python -m stages.tools.same

tutorial: setup ## run the tutorial's recipe as an experiment of DVC
	@$(IN_VENV) python -m stages.tools.recipe $@ $(ARGS)

fast: setup ## run the recipe made for speed as an experiment of DVC
	@$(IN_VENV) python -m stages.tools.recipe $@ $(ARGS)

accurate: setup ## run the recipe made for accuracy as an experiment of DVC
	@$(IN_VENV) python -m stages.tools.recipe $@ $(ARGS)

draw: setup ## draw a digit in the browser and watch it being read; ARGS=--no-browser opens none
	@$(IN_VENV) python -m stages.tools.draw $(ARGS)

results: setup .venv.torch/.ready ## run each recipe with five seeds and print the table of results
	@$(IN_VENV) python -m tests.bench.recipes --json tests/bench/recipes.json $(ARGS)

test: setup .venv/.core ## run the tests; ARGS="-k idx" chooses some
	@$(IN_VENV) python -m pytest $(ARGS)

faults: setup ## damage files and input by the thousand, and count what is lost
	@$(IN_VENV) python -m tests.faults $(ARGS)

audit: .venv/.ready .venv.audit/.ready ## look up known faults of the packages that requirements.txt pins
	@$(IN_VENV) python -m tests.audit

# Kernels are compiled as Jittor does, by the same standard of C++.
lint: .venv/.ready ## check style and types
	@$(IN_VENV) ruff check
	@$(IN_VENV) ruff format --check
	@$(IN_VENV) mypy
	@$(IN_VENV) clang-format --dry-run -Werror stages/shared/network/kernels/*.h tests/kernels/*
	@for program in tests/kernels/*.cc; do \
		g++ -std=c++14 -fopenmp -Wall -Wextra -Werror -fsyntax-only -I. $$program || exit 1; done

PEERS := torch jax tensorflow
bench: setup $(PEERS:%=.venv.%/.ready) ## time it all, in turns with PyTorch, JAX and TensorFlow
	@$(IN_VENV) python -m tests.bench.comparison --json tests/bench/results.json $(ARGS)
	@$(IN_VENV) python -m tests.bench.pipeline --json tests/bench/pipeline.json
	@$(IN_VENV) python -m tests.bench.pages

pages: .venv/.ready ## write the figures of the READMEs from the JSON files that hold them
	@$(IN_VENV) python -m tests.bench.pages

# Tools and peers that the pipeline and its tests do not need stay out of .venv.
.venv.%/.ready: tests/requirements/%.txt
	@rm -rf .venv.$* && .venv/bin/python -m venv .venv.$* && \
	echo "Making .venv.$* with $*: a minute or two." && \
	.venv.$*/bin/python -m pip install --quiet --disable-pip-version-check -r $< && \
	touch $@

doctor: ## show what this machine has and what is missing
	@$(DOCTOR)

setup: .venv/.ready .venv/.path .dvc/plots/page.html ## make .venv and install what requirements.txt pins

# Jittor's core is built here, where its progress can be seen; a stage would build it as well.
.venv/.core: .venv/.ready
	@$(IN_VENV) python -m stages.shared.network.runtime && touch $@

# With this, `python stages/train.py` finds its modules as `python -m stages.train` does.
.venv/.path: .venv/.ready
	@.venv/bin/python -c 'import pathlib, sysconfig; \
	pathlib.Path(sysconfig.get_path("purelib"), "stages.pth").write_text("../../../..\n")' && touch $@

# With this, the pages of dvc plots need no network.
.dvc/plots/page.html: .venv/.ready stages/tools/page.py stages/tools/page.html
	@$(IN_VENV) python -m stages.tools.page
	@echo "The environment is ready: .venv, Python $$(cut -d" " -f1 .venv/.ready)."

# Three packages come as source only. What builds them is of the lock too, and so comes first.
.venv/.ready: requirements.txt
	@python=$$($(DOCTOR) --check) && rm -rf .venv && \
	echo "Making .venv with $$python and installing about 200 packages (1.2 GB): a minute or two." && \
	"$$python" -m venv .venv && \
	awk '/^[a-z]/ { on = /^(setuptools|wheel)==/ } on' requirements.txt > .venv/builders.txt && \
	$(PIP_INSTALL) -r .venv/builders.txt && \
	$(PIP_INSTALL) -r requirements.txt && \
	.venv/bin/python -c '$(SAY)' > .venv/.ready.part && mv .venv/.ready.part .venv/.ready

lock: .venv/.ready ## pin the dependencies of pyproject.toml anew; ARGS=--upgrade takes newer ones
	@rm -rf .venv.lock && .venv/bin/python -m venv .venv.lock && cp requirements.txt .venv.lock/pins
	@.venv.lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	@.venv.lock/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --group dev $(ARGS) \
		-o .venv.lock/pins pyproject.toml
	@{ echo '# Every package that the project and its tests use, for Python 3.10 to 3.12, each with the'; \
	   echo '# hashes of its files. Made by `make lock` from pyproject.toml; do not edit by hand.'; \
	   cat .venv.lock/pins; } > .venv.lock/whole && mv .venv.lock/whole requirements.txt
	@rm -rf .venv.lock && echo "requirements.txt is written; make setup installs it"

clean: ## remove .venv and the tools' caches; results and DVC's cache stay
	rm -rf .venv .venv.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find stages tests -name __pycache__ -prune -exec rm -rf {} +

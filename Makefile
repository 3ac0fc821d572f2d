# Everything starts here. `make test` and `make demo` need Python 3.11 or newer, Go 1.26, git, make, bash and
# openssl; what else they need, they fetch into the user's cache (${CERTFLOW_CACHE:-~/.cache/certflow.kubernetes}).

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
RUN := $(or $(PYTHON),@echo "no Python 3.11 or newer found" >&2; false)

.PHONY: help demo demo-upgrade test test-all test-quick reliability upgrades bench fmt docs locks sums clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

demo: ## two real clusters, one play, a webhook on each that its API server accepts (minutes at first, then one)
	@$(RUN) -m tools.ci.enter dev -m examples.demo

demo-upgrade: ## the snapshot controller to another release on two clusters; with real pods where the user is root
	@$(RUN) -m tools.ci.enter dev -m examples.demo.upgrade

test: ## every gate; `make test GATES="ruff mypy"` runs some (up to 45 minutes; 65 with nothing cached)
	@$(RUN) -m tools.ci $(GATES)

test-all: ## every gate, and the tests that are too long for `make test`
	@$(RUN) -m tools.ci --all

test-quick: ## lint, types, unit tests and a small test on real clusters (3 minutes)
	@$(RUN) -m tools.ci --quick

reliability: ## every case of docs/reliability.md on a real control plane, and its figures anew; or TABLES=lies (hours)
	@$(RUN) -m tools.ci.enter dev -m tests.system.fault_injection $(TABLES)

upgrades: ## every row of docs/upgrades.md on real nodes, and its figures anew; or ROWS="kills" (an hour; as root)
	@$(RUN) -m tools.ci.enter dev -m tests.system.upgrades $(ROWS)

bench: ## side by side with the alternatives, on fifty hosts
	@$(RUN) -m tools.ci.enter dev -m benchmarks

fmt: ## puts the code into its form
	@$(RUN) -m tools.ci.enter lint -m ruff check --fix --quiet . ; $(RUN) -m tools.ci.enter lint -m ruff format .

docs: ## writes the pages that are made from tables of the code
	@$(RUN) -m tools.ci.enter dev -m tools.docs.pages

locks: ## resolves tools/ci/locks anew (for maintainers, with every Python at hand)
	@$(RUN) -m tools.ci.lock

sums: ## writes the table of the releases' files anew (for maintainers)
	@$(RUN) -m tools.release_checksums

clean: ## removes what runs left in the tree; the user's cache stays
	rm -rf .work .ansible
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

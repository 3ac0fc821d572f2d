# The commands of this repository. `make test` and `make demo` need Python 3.11 or newer, Go 1.26, git, make, bash and
# openssl. They fetch all other programs into the user's cache (${CERTFLOW_CACHE:-~/.cache/certflow.kubernetes}).
# With CERTFLOW_KUBERNETES_BIN=FOLDER they use the kube-apiserver, kube-controller-manager, etcd and kubectl in it, and build none.
# `make demo` then needs Go only for its first two steps and its last one.

# `make t PATH=FILE` names a test. PATH is also the shell's list of folders, so programs get back the list that make was started with.
ifeq ($(origin PATH),command line)
TESTS := $(PATH)
override PATH := $(shell PATH=/usr/bin:/bin; tr '\0' '\n' < /proc/$$PPID/environ | sed -n 's/^PATH=//p')
export PATH
endif
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
RUN := $(or $(PYTHON),@echo "no Python 3.11 or newer found" >&2; false)

.PHONY: help demo demo-all demo-fleet demo-ca demo-upgrade t test test-all test-quick evidence audit-matrix reliability years upgrades bench bench-quick fmt docs site pictures locks changelog release release-build sums clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

demo: ## install a webhook's certificate on two real clusters with one play (one minute; more at the first time)
	@$(RUN) -m tools.ci.enter dev -m examples.demo

demo-fleet: ## roll out a certificate to six clusters: audit, plan, canary, soak, budget, report, repair (three minutes)
	@$(RUN) -m tools.ci.enter dev -m examples.demo.fleet

demo-ca: ## rotate the CA of two clusters: audit, prepare, switch, renewal, finish, and a cluster that is not prepared (two minutes)
	@$(RUN) -m tools.ci.enter dev -m examples.demo.cluster_ca

demo-upgrade: ## upgrade the snapshot controller on two clusters (as root with real pods)
	@$(RUN) -m tools.ci.enter dev -m examples.demo.upgrade

demo-all: ## run every demo, one after the other, and fail at the end if one failed (ten minutes)
	@status=0; for name in demo demo-fleet demo-ca demo-upgrade; do $(MAKE) --no-print-directory $$name || status=1; done; exit $$status

t: ## run a file of tests, one test, or an integration target: make t PATH=tests/unit/test_imports.py [ON=core-2.16]
	@$(RUN) -m tools.ci.run_path '$(TESTS)' $(ON)

test: ## run every gate, or some: make test GATES="ruff mypy" (about 35 minutes; an hour with an empty cache)
	@$(RUN) -m tools.ci $(GATES)

test-all: ## run every gate on every ansible-core, and the tests that are too long for make test (hours)
	@$(RUN) -m tools.ci --all

test-quick: ## run lint, types, unit tests and a small test on real clusters (3 minutes)
	@$(RUN) -m tools.ci --quick

evidence: ## measure every page of results on this commit, and continue an earlier run: PARTS="upgrades" (half a day)
	@$(RUN) -m tools.ci.enter dev -m tests.evidence $(PARTS)

audit-matrix: ## run every row of the reference page audit matrix and write its tables, or some: ROWS="Ed25519" (two minutes)
	@$(RUN) -m tools.ci.enter dev -m tests.system.audit.matrix $(ROWS)

reliability: ## run every fault of the reference page reliability and write its tables, or some: TABLES=false-answers (hours)
	@$(RUN) -m tools.ci.enter dev -m tests.system.fault_injection $(TABLES)

years: ## let a fleet live through years, with errors and kills by chance: SEED=1 ROUNDS=72 EVENTS=killed,off (an hour; it continues an earlier run)
	@$(RUN) -m tools.ci.enter dev -m tests.years $(or $(SEED),1) $(or $(ROUNDS),72) "$(EVENTS)"

upgrades: ## run every row of the reference page upgrades on real nodes and write its tables, or some: ROWS="kills" (an hour, as root)
	@$(RUN) -m tools.ci.enter dev -m tests.system.upgrade.rows $(ROWS)

bench: ## compare with the alternatives and write the page of the benchmarks, or some rows: make bench ROWS="audit" (an hour)
	@$(RUN) -m tools.ci.enter bench -m benchmarks $(ROWS)

bench-quick: ## print the ratios that became worse by more than a quarter (2 minutes)
	@$(RUN) -m tools.ci.enter bench -m benchmarks --quick

fmt: ## format the code
	@$(RUN) -m tools.ci.enter lint -m ruff check --fix --quiet . ; $(RUN) -m tools.ci.enter lint -m ruff format .

site: ## build the documentation site to .work/site
	@$(RUN) -m tools.ci.site

docs: ## write the pages that are made from tables of the code
	@$(RUN) -m tools.ci.enter dev -m tools.docs.pages

pictures: ## write the pictures of the report's page and of a fleet run in the documentation (needs Chromium)
	@$(RUN) -m tools.ci.enter dev -m tools.docs.run_picture
	@$(RUN) -m tools.ci.enter dev -m tools.docs.report_pictures

locks: ## resolve the versions in tools/ci/locks (for maintainers, with every Python installed)
	@$(RUN) -m tools.ci.lock

changelog: ## move the fragments into the change log, as the entry of the version of galaxy.yml (for maintainers, see RELEASING.md)
	@$(RUN) -m tools.ci.enter dev -m tools.release changelog

release: ## check a commit, run the gates, and build the file of a release: make release VERSION=1.0.0 (for maintainers, see RELEASING.md)
	@$(RUN) -m tools.ci.enter dev -m tools.release release '$(VERSION)' --gates '$(GATES)'

release-build: ## build the file of a release and its checksum, without the gates: make release-build VERSION=1.0.0
	@$(RUN) -m tools.ci.enter dev -m tools.release build '$(VERSION)'

sums: ## write the checksums of the releases' files (for maintainers)
	@$(RUN) -m tools.release_checksums

clean: ## remove the files of earlier runs from the tree, but keep the user's cache
	rm -rf .work .ansible
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What people type: make run, make test, make accept.

CARGO ?= cargo
# One profile for everything, so that the heavy crates are built once.
PROFILE = --release
APT ?= $(if $(filter 0,$(shell id -u)),apt-get,sudo apt-get)
# Where the tests find redis-py.
REDIS_PY = .tools/redis-py

.PHONY: run test lint fmt deny accept tools help

help:
	@echo "make run     train a network on CIFAR-10 through Cirrus"
	@echo "make test    check formatting, lints and licences, and run every short test"
	@echo "make accept  the long tests: two full trainings, many kills"

# ARGS="--epochs 1 --limit 5000" and so on; see cirrus run images --help.
run:
	$(CARGO) build $(PROFILE) -p cirrus-cli
	$(CARGO) run $(PROFILE) --quiet -p cirrus-cli -- run images $(ARGS)

test: tools lint
	$(CARGO) nextest run $(PROFILE) --workspace --no-fail-fast
	$(CARGO) test $(PROFILE) --workspace --doc --quiet

lint: tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(PROFILE) --workspace --all-targets --quiet -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --log-level error --offline check bans licenses sources; \
	else \
		echo "skipped: licences and bans, because cargo-deny could not be installed"; \
	fi

accept: tools
	$(CARGO) nextest run $(PROFILE) --workspace --profile accept --run-ignored all

# Tools that the toolchain lacks. The tests need nextest, redis-server (which is not started as a
# service: RUNLEVEL=1 keeps the package from it), redis-tools and redis-py; they say so where they
# are missing. The rest is skipped.
tools:
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-nextest
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny || true
	@command -v redis-server >/dev/null && command -v redis-cli >/dev/null || ( \
		echo "installing redis-server and redis-tools, which the tests of RESP run"; \
		$(APT) update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
		$(APT) install -y -qq --no-install-recommends redis-server redis-tools >/dev/null ) || true
	@$(REDIS_PY)/bin/python -c 'import redis' 2>/dev/null || ( \
		python3 -m venv $(REDIS_PY) && $(REDIS_PY)/bin/pip install -q redis ) || true

fmt:
	$(CARGO) fmt --all

# What people type: make run, make test, make bench, make accept.

CARGO ?= cargo
# One profile for everything, so that the heavy crates are built once.
PROFILE = --release
# Programs are built with the features that the whole workspace asks of its dependencies: asked for
# one package alone, cargo would build the tensor library once more with others.
PROGRAMS = $(or $(CARGO_TARGET_DIR),target)/$(PROFILE:--%=%)
# RUNLEVEL=1 keeps a package from starting its service.
APT = $(if $(filter 0,$(shell id -u)),,sudo) env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq
# Where the tests find redis-py.
REDIS_PY = .tools/redis-py
# Where the benchmarks find PyTorch (the system's, without CUDA) and MosaicML's streaming.
LOADERS = .tools/loaders
# Where they find Vowpal Wabbit, scikit-learn and surprise.
LEARNING = .tools/learning
# Where they find DuckDB.
DUCKDB = .tools/duckdb
# Where they find HiGHS, built: its source would take ten minutes of a processor.
HIGHS = .tools/highs

.PHONY: run test bench lint fmt deny accept tools bench-tools help

help:
	@echo "make run     train a network on CIFAR-10 through Cirrus"
	@echo "make test    check formatting, lints and licences, and run every short test"
	@echo "make bench   compare with other systems; ARGS=\"--quick\", \"--only redis\", \"--list\""
	@echo "make accept  the long tests: full trainings, many kills, 20,000 simulated runs, plans with HiGHS"

# ARGS="--epochs 1 --limit 5000" and so on; see cirrus run images --help.
run:
	$(CARGO) build $(PROFILE) --workspace --bin cirrus
	$(PROGRAMS)/cirrus run images $(ARGS)

test: tools lint
	$(CARGO) nextest run $(PROFILE) --workspace --no-fail-fast
	$(CARGO) test $(PROFILE) --workspace --doc --quiet

lint: tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(PROFILE) --workspace --all-targets --quiet -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) fetch --locked --quiet; \
		$(CARGO) deny --log-level error --offline check bans licenses sources; \
	else \
		echo "skipped: licences and bans, because cargo-deny could not be installed"; \
	fi

# ARGS="--quick", ARGS="--only callers/get --seconds 5", ARGS="--list"; see docs/benchmarks.md.
bench: bench-tools
	$(CARGO) build $(PROFILE) --workspace --bin cirrus-bench --bin cirrus
	$(PROGRAMS)/cirrus-bench $(ARGS)

accept: tools
	CIRRUS_SIM_SEEDS=20000 $(CARGO) nextest run $(PROFILE) --workspace --profile accept --run-ignored all
	@command -v cmake >/dev/null && ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1 || \
		{ $(APT) update && $(APT) install -y --no-install-recommends cmake g++ libclang-dev; }
	$(CARGO) nextest run $(PROFILE) -p cirrus-plan --features highs --profile accept packing

# Tools that the toolchain lacks. The tests need nextest, redis-server, redis-tools, redis-py and
# HiGHS (and Debian's venv module to install them): what cannot be had stops here. cargo-deny is
# skipped.
tools:
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-nextest
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny || true
	@command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	command -v redis-cli >/dev/null || missing="$$missing redis-tools"; \
	test -x $(REDIS_PY)/bin/pip || python3 -c 'import ensurepip' 2>/dev/null || \
		missing="$$missing python3-venv"; \
	if [ -n "$$missing" ]; then \
		echo "installing$$missing, which the tests run"; \
		$(APT) update && $(APT) install -y --no-install-recommends $$missing; \
	fi
	@$(REDIS_PY)/bin/python -c 'import redis' 2>/dev/null || \
		{ python3 -m venv $(REDIS_PY) && $(REDIS_PY)/bin/pip install -q redis; }
	@test -x $(HIGHS)/highsbox/highs_dist/bin/highs || \
		$(REDIS_PY)/bin/pip install -q --target $(HIGHS) highsbox==1.15.1

# The systems that are compared with, installed where they are missing; none of them is started as
# a service. What cannot be installed is reported by its comparisons.
bench-tools:
	@for program in redis-server memcached; do \
		command -v $$program >/dev/null 2>&1 || missing="$$missing $$program"; \
	done; \
	command -v db_bench >/dev/null 2>&1 || missing="$$missing rocksdb-tools"; \
	if [ -n "$$missing" ]; then \
		$(APT) update; \
	fi; \
	for package in $$missing; do \
		$(APT) install -y --no-install-recommends $$package || echo "$$package: not installed" >&2; \
	done
	@$(LOADERS)/bin/python -c 'import streaming' 2>/dev/null || { \
		$(APT) install -y --no-install-recommends python3-torch python3-torchvision python3-venv && \
		/usr/bin/python3 -m venv --system-site-packages $(LOADERS) && \
		$(LOADERS)/bin/pip install -q --no-deps mosaicml-streaming && \
		$(LOADERS)/bin/pip install -q Brotli catalogue pillow python-snappy 'transformers<5' 'xxhash<4' zstd; \
	} || echo "PyTorch or MosaicML's streaming: not installed" >&2
	@$(DUCKDB)/bin/python -c 'import duckdb' 2>/dev/null || { \
		python3 -m venv $(DUCKDB) && $(DUCKDB)/bin/pip install -q duckdb; \
	} || echo "DuckDB: not installed" >&2
	@$(LEARNING)/bin/python -c 'import safetensors, sklearn, surprise, vowpalwabbit' 2>/dev/null || { \
		python3 -m venv $(LEARNING) && \
		$(LEARNING)/bin/pip install -q numpy safetensors scikit-learn scikit-surprise vowpalwabbit; \
	} || echo "Vowpal Wabbit, scikit-learn or surprise: not installed" >&2

fmt:
	$(CARGO) fmt --all

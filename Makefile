# Handfast. `make` alone lists the targets.
#
# One cargo profile (release, with assertions) serves users, tests and benchmarks,
# because the consensus engine, a C++ library, is compiled once per profile.

NETWORK ?= regtest
ARGS    ?=

CARGO   ?= cargo
TARGET  := $(or $(CARGO_TARGET_DIR),target)

# Where `make install` puts commands.
BIN     := $(or $(PREFIX:%=%/bin),$(or $(CARGO_HOME),$(HOME)/.cargo)/bin)

export HANDFAST_CLIENTS ?= $(abspath $(TARGET)/clients/release/handfast-clients)
# The command; the node's program, `handfastd`, is taken from the same directory.
export HANDFAST_BIN ?= $(abspath $(TARGET)/release/handfast)

.DEFAULT_GOAL := help
.PHONY: help run testnet build install test check sim fuzz interop bench doc setup bitcoind clients servers

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Builds all, though the node alone would do: cargo builds dependencies once per set of
# packages, and so `make test` finds them built.
run: build ## Build, then run a node in the foreground, which mines on regtest (NETWORK=regtest|testnet4|signet|mainnet, ARGS="...")
	$(HANDFAST_BIN) run --network $(NETWORK) $(if $(filter regtest,$(NETWORK)),$(if $(filter --mine,$(ARGS)),,--mine)) $(ARGS)

testnet: ## Run three nodes in a line, the first mining, with a table of how they are (ARGS="--mine-interval 1")
	scripts/testnet $(ARGS)

build: setup ## Build everything
	$(CARGO) build --release --workspace

# `handfast` becomes `handfastd`, which lies beside it, for `run`. The node's program goes first: a
# command without it is of no use.
install: build ## Put `handfast` and `handfastd` where cargo puts commands (PREFIX=/usr/local: into its bin)
	install -D -m 755 $(dir $(HANDFAST_BIN))handfastd $(BIN)/handfastd
	install -D -m 755 $(HANDFAST_BIN) $(BIN)/handfast

test: build ## Run every test that needs no other node
	$(CARGO) test --release --workspace

check: ## Formatting, clippy with warnings as errors, dependency rules
	@scripts/setup check
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt --manifest-path tests/clients/Cargo.toml -- --check
	$(CARGO) clippy --release --workspace --all-targets --all-features -- -D warnings
	$(CARGO) deny --all-features check bans licenses sources
	@scripts/advisories

sim: build ## Simulate networks with faults, and attacks on a node (SEED=n replays one, RUNS=10000 explores, ARGS=--attack)
	$(TARGET)/release/sim $(if $(SEED),--seed $(SEED),--runs $(or $(RUNS),200)) $(ARGS)

fuzz: build ## Fuzz Handfast for long: every scenario 20,000 times, 300 at a time, and all mixed for two minutes
	FUZZ_CYCLES=20000 FUZZ_CONCURRENCY=300 FUZZ_MIX_SECONDS=120 \
	$(CARGO) test --release --workspace --test fuzz_handfast -- --nocapture --test-threads=1

interop: build bitcoind clients servers ## Run the tests against a real bitcoind (built once, about 15 minutes) and with other people's clients
	$(CARGO) test --release --workspace --features handfast-tests/interop --test interop

bench: build bitcoind ## Sync, churn, RPC beside bitcoind, mining and the fuzzer (ARGS="--bench sync|churn|fuzz|rpc|mining --runs 5 --chain light|signed"; ARGS="--bench attack": hostile peers)
	$(CARGO) build --release --workspace --examples
	$(TARGET)/release/bench $(ARGS)

doc: setup ## Build the documentation of all crates
	$(CARGO) doc --release --workspace --no-deps

setup: ## Install what is missing (Debian, Ubuntu)
	@scripts/setup

bitcoind: setup ## Build the bitcoind that interop and bench use
	@scripts/bitcoind

# A workspace of its own: see its Cargo.toml.
clients: setup ## Build the clients of others that interop runs
	$(CARGO) build --release --locked --manifest-path tests/clients/Cargo.toml --target-dir $(TARGET)/clients

# Where one cannot be had its tests say so and do nothing.
servers: ## Install the Electrum servers, and the wallet, that interop runs (electrs is built once, about 3 minutes)
	@for it in "electrumx 1.19.0" "electrumx 2.0.0" electrs electrum; do \
		scripts/$$it >/dev/null || echo "make: no $$it here: its tests are skipped" >&2; \
	done

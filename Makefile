# The commands of this repository. Each is a few lines; what takes more is a script in scripts/ or crates/xtask.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/streamforge
# Outside the clone, so that a fresh clone does not compile the world again.
export CARGO_TARGET_DIR ?= $(CACHE)/target
BINARY := $(CARGO_TARGET_DIR)/release/streamforge
# More arguments for up, demo and run:  make up ARGS='--console 127.0.0.1:8090'
ARGS ?=
# Which benchmark:  make bench BENCH=b13
BENCH ?= all
# Which client:  make compat CLIENT=franz-go
CLIENT ?= all

.NOTPARALLEL:
.PHONY: help up demo run build test compat check bench gen dist fmt clean-cache

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

up: build ## Build, then run a gateway with a demo plant; Ctrl-C stops it
	@exec $(BINARY) up --demo $(ARGS)

demo: up ## The same as up

run: build ## Build, then run a gateway of your own; its document is in ~/.local/share/streamforge
	@exec $(BINARY) up $(ARGS)

build: ## Build the release binary
	@scripts/setup.sh build
	cargo build --release --locked --package streamforge --bin streamforge

test: ## Everything CI runs: format, lints, tidy, all tests, also those against foreign programs
	@scripts/setup.sh build
	@scripts/setup.sh test
	@scripts/test.sh

compat: build ## Run the clients of others against the broker; CLIENT=<name> for one, ARGS='--killed-every 30'
	@scripts/setup.sh test
	SF_COMPAT_PROGRAM=$(BINARY) compat/run.sh $(ARGS) $(CLIENT)

check: ## The inner loop: format, lints, tidy, unit tests
	@scripts/setup.sh build
	cargo fmt --all --check
	cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	cargo xtask tidy
	cargo test --quiet --locked --workspace --lib --bins

bench: ## Measure; BENCH=<name> for one benchmark
	@scripts/setup.sh build
	@scripts/setup.sh bench
	bench/run.sh $(BENCH)

gen: ## Write the generated contracts and reference pages
	cargo xtask gen

dist: ## Pack a release into $(CARGO_TARGET_DIR)/dist
	@scripts/setup.sh build
	cargo xtask dist

fmt: ## Format all sources
	cargo fmt --all

clean-cache: ## Remove what building and testing left in the cache folder
	rm -rf $(CACHE)/target $(CACHE)/venv $(CACHE)/node $(CACHE)/bench

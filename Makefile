# cotton: what a person types. Each target is a line or two over cargo and scripts/.
.DEFAULT_GOAL := help
SHELL := /bin/bash
export CARGO_BUILD_JOBS ?= 2

help: ## what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: ## install what demo and tests need (Debian: by itself; elsewhere: says what)
	@scripts/setup

demo: ## the main job, live: create, fail over, scale, delete
	@scripts/setup
	cargo build --locked -p cotton-bin -p cotton-tests --no-default-features --bin cotton --bin cotton-executor --bin cotton-demo
	@target/debug/cotton-demo

test: ## all tests, also those on real servers
	@scripts/setup --all
	cargo build --locked -p cotton-bin --bins
	cargo test --locked --workspace --all-features

soak: ## simulate SEEDS=n worlds that lose, delay and kill, from seed FROM=m on, on all cores
	cargo run --release --locked --quiet -p cotton-core --features testkit --example soak -- $(or $(SEEDS),100000) $(FROM)

lint: ## formatting, clippy, documentation, purity of the core
	@scripts/lint

bench: ## measure, print a table, write target/bench/results.json
	@scripts/setup --all
	cargo build --release --locked -p cotton-bin -p cotton-tests --bins
	@target/release/cotton-bench

chaos: ## faults and hostile users by seed, after each round all is compared: MINUTES=3 [SEED=s] [SERVER=mysql] [ON=mesos] [AIM=primary]
	@scripts/setup --all
	cargo build --locked -p cotton-bin -p cotton-tests --bins
	@target/debug/cotton-chaos --minutes $(or $(MINUTES),3) --seed "$(SEED)" --server $(or $(SERVER),mariadb) --on $(or $(ON),local) --aim $(or $(AIM),any)

dist: ## programs for delivery, stripped and with checksums, in dist/
	@scripts/dist

doc: ## the libraries' documentation
	cargo doc --locked --workspace --no-deps --all-features

.PHONY: help setup demo test soak lint bench chaos dist doc

# What a developer types. Every target also works by hand; the scripts say how.

ARGS ?=

.PHONY: help demo release test bench regress regress-split isolation soak setup fmt lint fuzz oracle clean

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1#\2/p' $(MAKEFILE_LIST) | awk -F '#' '{ printf "%-14s %s\n", $$1, $$2 }'

demo: ## a throwaway cluster with sample data behind Turnpike (ARGS="--events 1000000")
	@scripts/setup server
	cargo build --release --locked
	@target/release/turnpike demo $(ARGS)

release: ## what is distributed: a build that has been trained with pgbench (target/trained)
	@scripts/setup server bench
	scripts/trained build --release --locked $(ARGS)

test: ## everything that must pass: format, lints, unit and integration tests
	@scripts/setup server drivers peers
	@scripts/test

bench: ## micro-benchmarks, then Turnpike beside PgBouncer and bare PostgreSQL
	@scripts/setup server bench
	scripts/trained bench --locked $(ARGS)
	@if [ -x scripts/bench ]; then scripts/bench; fi

regress: ## PostgreSQL's own regression suite through Turnpike, in transaction mode
	@scripts/setup server
	cargo build --release --locked
	@scripts/regress turnpike $(ARGS)

regress-split: ## the same with reads on two replicas (REFRESH=1 for many more of them, in ten minutes)
	@scripts/setup server
	cargo build --release --locked
	@scripts/regress turnpike-split $(ARGS)

isolation: ## PostgreSQL's isolation suite, likewise
	@scripts/setup server
	cargo build --release --locked
	@SUITE=isolation scripts/regress turnpike $(ARGS)

soak: ## ten minutes of everything at once (TURNPIKE_SOAK_SECONDS=n)
	@scripts/setup server
	cargo test --locked --test integration -- --ignored --nocapture soak

setup: ## install what is missing: PostgreSQL, Patroni, Python and Node for tests
	@scripts/setup server drivers peers

fmt: ## format the code
	cargo fmt --all

lint: ## the lints that must be silent
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings

fuzz: ## fuzz each target for a minute (SECONDS_EACH=n)
	@scripts/fuzz

oracle: ## statements beside PostgreSQL's own parser (ARGS=--list-fallbacks)
	@scripts/setup server
	@scripts/oracle $(ARGS)

clean: ## remove what was built
	cargo clean

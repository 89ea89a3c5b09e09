# All commands. Continuous integration runs the same commands.
# The text after `##` is shown by `make help`.

.DEFAULT_GOAL := help
.PHONY: help demo test compatibility longevity lint fuzz bench soak sqlx sbom verify

# Checked queries are compiled against `.sqlx`, even if the shell sets a database; `make sqlx` updates it.
export SQLX_OFFLINE = true
# There are more threads than processors, because most tests wait for leases, browsers or the end of a process.
export RUST_TEST_THREADS ?= 4
LONGEVITY_DAYS ?= 400

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Start everything and deliver a recorded conversation (DEMO_FLAGS=--exit stops after its last event arrived)
	@scripts/install compiler postgresql
	@cargo run --release --locked -- demo $(DEMO_FLAGS)

test: ## Check and test everything, with a private PostgreSQL
	@scripts/install compiler postgresql cargo-deny sqlx-cli snippets mobile-push prometheus deployment openapi squawk trixie browsers
	@scripts/test

compatibility: ## Run all integration tests through pgbouncer, and on PostgreSQL 17
	@scripts/install compiler postgresql snippets mobile-push prometheus deployment openapi trixie browsers
	@scripts/test-compatibility

lint: ## Check the format, the lints, the conventions, the migrations and the licences
	@scripts/install compiler cargo-deny squawk
	@scripts/lint

longevity: ## Simulate 400 days (LONGEVITY_DAYS=400) and compare the cost of the queue's statements with a new database
	@scripts/install compiler postgresql
	@LONGEVITY_DAYS=$(LONGEVITY_DAYS) MIGRATION_DELIVERIES=10000000 scripts/with-postgres \
		cargo test --locked --features failpoints --test it -- --nocapture --test-threads=1 longevity

fuzz: ## Search for inputs that break a parser, on nightly (FUZZ_SECONDS=60 for each target; TARGET=url runs only one)
	@scripts/install compiler cargo-fuzz
	@scripts/fuzz $(TARGET)

bench: ## Run the benchmarks and compare with peers (QUICK=1 takes under 3 minutes)
	@scripts/install compiler postgresql
	@QUICK=$(QUICK) benches/run

soak: ## Run the service for an hour (SOAK_MINUTES=60) with kills and crashes, and check its guarantees and its growth
	@scripts/install compiler postgresql
	@SOAK_MINUTES=$(SOAK_MINUTES) SOAK_FAULT_MINUTES=$(SOAK_FAULT_MINUTES) SOAK_RATE=$(SOAK_RATE) benches/soak/run

sqlx: ## Update .sqlx after a change of a query or the schema
	@scripts/install compiler postgresql sqlx-cli
	@scripts/with-postgres scripts/sqlx prepare

sbom: ## Write the binary's components (CycloneDX) to target/sbom
	@scripts/install compiler cargo-cyclonedx
	@scripts/sbom

verify: test compatibility ## Run everything required before a release: all tests, the demo, short benchmarks
	@$(MAKE) --no-print-directory demo DEMO_FLAGS=--exit
	@$(MAKE) --no-print-directory bench QUICK=1

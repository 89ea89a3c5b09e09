# The one list of commands; continuous integration runs the same ones.
# `##` after a target is its line in the list.

.DEFAULT_GOAL := help
.PHONY: help demo test compatibility longevity lint fuzz bench soak sqlx sbom verify

# The checked queries are compiled against `.sqlx`, whatever database the shell knows of; `make sqlx` renews it.
export SQLX_OFFLINE = true
# More than there are processors: most tests wait, for leases, for browsers, for a process to die.
export RUST_TEST_THREADS ?= 4
LONGEVITY_DAYS ?= 400

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Start everything and deliver a recorded conversation (DEMO_FLAGS=--exit: end when all have arrived)
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

longevity: ## Let 400 days pass (LONGEVITY_DAYS=400) and compare what the queue's statements cost with a new database
	@scripts/install compiler postgresql
	@LONGEVITY_DAYS=$(LONGEVITY_DAYS) MIGRATION_DELIVERIES=10000000 scripts/with-postgres \
		cargo test --locked --features failpoints --test it -- --nocapture --test-threads=1 longevity

fuzz: ## Look for inputs that break a parser, on nightly (FUZZ_SECONDS=60 for each target; TARGET=url: one alone)
	@scripts/install compiler cargo-fuzz
	@scripts/fuzz $(TARGET)

bench: ## Measure, and compare with the peers (QUICK=1: in under 3 minutes)
	@scripts/install compiler postgresql
	@QUICK=$(QUICK) benches/run

soak: ## Run for an hour (SOAK_MINUTES=60) with kills and crashes, and fail if anything grows or a promise breaks
	@scripts/install compiler postgresql
	@SOAK_MINUTES=$(SOAK_MINUTES) SOAK_FAULT_MINUTES=$(SOAK_FAULT_MINUTES) SOAK_RATE=$(SOAK_RATE) benches/soak/run

sqlx: ## Renew .sqlx after a query or the schema was changed
	@scripts/install compiler postgresql sqlx-cli
	@scripts/with-postgres scripts/sqlx prepare

sbom: ## Write what the binary is made of (CycloneDX), to target/sbom
	@scripts/install compiler cargo-cyclonedx
	@scripts/sbom

verify: test compatibility ## What must hold before a release: all tests, the demo, a short measurement
	@$(MAKE) --no-print-directory demo DEMO_FLAGS=--exit
	@$(MAKE) --no-print-directory bench QUICK=1

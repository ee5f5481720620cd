# Run `make` for help.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)
DATE    ?= $(shell TZ=UTC git show -s --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ HEAD 2>/dev/null)
STAMP   := -X aiops/internal/telemetry.version=$(VERSION) -X aiops/internal/telemetry.commit=$(COMMIT) -X aiops/internal/telemetry.date=$(DATE)
GO      ?= go
BIN     := bin/aiops
ARGS    ?=
BENCH_DATA ?= ../shared/bench

WEB_SOURCES := $(shell find web/src web/index.html web/package.json web/vite.config.ts 2>/dev/null)

.PHONY: help
help: ## This list
	@grep -hE '^[a-z0-9-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: run
run: build ## Build everything and watch this host at http://127.0.0.1:8080
	$(BIN) serve $(ARGS)

.PHONY: demo
demo: build ## The same, with a small shop under load and faults on a schedule
	$(BIN) demo $(ARGS)

.PHONY: build
build: web ## Build the page and the program into bin/
	$(GO) build -ldflags "$(STAMP)" -o $(BIN) ./cmd/aiops

.PHONY: web
web: web/dist/index.html ## Build the page

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	@touch $@

web/dist/index.html: web/node_modules/.package-lock.json $(WEB_SOURCES)
	cd web && npm run build

.PHONY: test
test: test-system web ## Install what the tests need and run all of them
	$(MAKE) test-go
	$(MAKE) test-web

.PHONY: test-system
test-system: ## Install the programs that tests start (a database, a real Prometheus, a browser)
	scripts/test-system

.PHONY: test-go
test-go: ## Go tests with the race detector
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) test -race -timeout 20m ./...
	cd deploy && $(GO) vet ./... && $(GO) test -timeout 15m ./...

.PHONY: test-web
test-web: web ## Type check, lint and test the page
	cd web && npm run typecheck && npm run lint && npm test

.PHONY: check
check: generate-check lint test ## Everything: generated files, lint, tests

.PHONY: generate
generate: ## Write generated files again: the OpenAPI document, the clients' types, the error catalogue
	$(GO) test ./internal/api -run 'TestGenerated' -rewrite
	cd web && npm run generate
	$(GO) test ./bench -run TestPlots -rewrite
	cd tools && $(GO) build -o ../bin/oapi-codegen github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen
	cd client && $(GO) generate .
	cd deploy && $(GO) test -run TestPlainManifests -rewrite .

.PHONY: generate-check
generate-check: web/node_modules/.package-lock.json generate ## Fail when generated files are not up to date
	git diff --exit-code -- web/openapi.json web/src docs/errors.md docs/plots client deploy/kubernetes

.PHONY: lint
lint: ## golangci-lint, as pinned in tools/
	cd tools && $(GO) build -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	bin/golangci-lint run ./...

.PHONY: vulnerabilities
vulnerabilities: ## Known vulnerabilities that the program can reach
	cd tools && $(GO) build -o ../bin/govulncheck golang.org/x/vuln/cmd/govulncheck
	bin/govulncheck ./...

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZ_TIME (default 10s)
	@for package in $$(git grep -l '^func Fuzz' -- '*_test.go' | xargs -n1 dirname | sort -u); do \
	  for target in $$(git grep -ohE '^func Fuzz[A-Za-z0-9_]+' -- $$package/'*_test.go' | sed 's/^func //' | sort -u); do \
	    echo "$$package $$target"; $(GO) test ./$$package -run '^$$' -fuzz "^$$target\$$" -fuzztime $(or $(FUZZ_TIME),10s); \
	  done; \
	done

.PHONY: release
release: web ## Static programs for Linux on amd64 and arm64 with their parts list and checksums, in bin/release
	rm -rf bin/release && mkdir -p bin/release
	for arch in amd64 arm64; do CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -trimpath -buildvcs=false -tags timetzdata -ldflags "-s -w $(STAMP)" -o bin/release/aiops-linux-$$arch ./cmd/aiops; done
	cd tools && $(GO) build -o ../bin/cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
	for arch in amd64 arm64; do bin/cyclonedx-gomod bin -json -output bin/release/aiops-linux-$$arch.cdx.json bin/release/aiops-linux-$$arch; done
	cd web && npm sbom --sbom-format cyclonedx --omit dev > ../bin/release/aiops-page.cdx.json
	cd bin/release && sha256sum aiops-* > SHA256SUMS

.PHONY: bench
bench: ## Speed and memory of every model, of the pipeline and of the store
	$(GO) test -run '^$$' -bench . -benchmem -count $(or $(COUNT),1) ./internal/detect ./internal/pipeline ./internal/store ./internal/logmine

.PHONY: bench-accuracy
bench-accuracy: build ## Accuracy on labelled public data (BENCH_DATA=folder)
	$(BIN) bench accuracy --data $(BENCH_DATA)/metrics

.PHONY: bench-budget
bench-budget: build ## False alarms on generated clean data against the budget
	$(BIN) bench budget

.PHONY: bench-logs
bench-logs: build ## Accuracy and speed of the template miner (BENCH_DATA=folder)
	$(BIN) bench logs --data $(BENCH_DATA)/logs

.PHONY: bench-scale
bench-scale: ## 100,000 series at a 30 s step from the embedded database, for five minutes
	AIOPS_SCALE=5m $(GO) test -run TestScale -v -count 1 -timeout 20m ./e2e

.PHONY: bench-live
bench-live: build ## The live stream in full: 10,000 clients for FOR (10m), slow clients, a crash; CLIENTS=1000 FOR=10s is quick
	$(BIN) bench live --clients $(or $(CLIENTS),10000) --for $(or $(FOR),10m) --crash

.PHONY: live
live: ## 10,000 streams on the whole program for a minute (STREAMS=10000 FOR=1m), without the race detector
	AIOPS_STREAMS=$(or $(STREAMS),10000) AIOPS_STREAMS_FOR=$(or $(FOR),1m) $(GO) test -run TestACrowdOfStreams -v -count 1 -timeout 20m ./e2e

.PHONY: chaos
chaos: ## Ten minutes of faults at random, with the race detector (CHAOS=10m)
	AIOPS_CHAOS=$(or $(CHAOS),10m) $(GO) test -race -run TestChaos -v -count 1 -timeout 30m ./e2e

.PHONY: hostile
hostile: ## A thousand body bombs and slow clients, probes beside a hung source, listeners; without the race detector, so that bounds of memory hold
	$(GO) test -run 'TestBodyBombs|TestSlowClients|TestProbesBeside|TestNothingElse' -v -count 1 -timeout 20m ./e2e

.PHONY: outage
outage: ## PostgreSQL away for a minute, and 1,000 keyed requests through a kill
	AIOPS_OUTAGE=60s AIOPS_KEYS=1000 $(GO) test -run 'TestPostgres|TestKeysRunOnce' -v -count 1 -timeout 20m ./e2e

.PHONY: failover
failover: ## Two programs on one PostgreSQL: fifty kills, stops and pauses with the default lease; about half an hour (KILLS=50)
	AIOPS_FAILOVER=$(or $(KILLS),50) $(GO) test -run TestFailover -v -count 1 -timeout 90m ./e2e

.PHONY: bench-load
bench-load: build ## Latency, throughput and overload: server on one core, generator on another (FOR=10s each part)
	$(BIN) bench load --for $(or $(FOR),10s)

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin web/dist/assets web/dist/index.html web/node_modules

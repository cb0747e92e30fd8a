# Troupe. "make help" lists the targets.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT   ?= $(shell git rev-parse --short HEAD 2>/dev/null)
CLI      := github.com/troupelog/troupe/node/cli
LDFLAGS  := -s -w -X $(CLI).version=$(VERSION) -X $(CLI).commit=$(COMMIT)
FUZZTIME ?= 20s
KILLS    ?= 20
RECORDS  ?= 1000000
MEMBERS  ?= 100
PARTS    ?= 1000
DATA     ?= data

# Build tools live in modfiles of their own, so they never touch go.mod.
BUF  := go tool -modfile=tools/go.mod buf
LINT := go tool -modfile=tools/lint/go.mod golangci-lint

.PHONY: help build run cluster test deps consul clients race lint fmt proto proto-check fuzz sim chaos \
	eos groups sdk bench bench-peers bench-smoke check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/troupe
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/troupe .

run: build ## build and start one node, data in ./data (DATA=dir)
	exec bin/troupe start --data-dir $(DATA)

cluster: build ## build and start a Consul and three nodes on this machine, data in ./data-cluster
	go build -o bin/cluster ./examples/cluster
	exec bin/cluster -troupe bin/troupe

test: deps consul ## install what the tests need (kcat, two Python clients, consul) and run the whole suite
	go test -timeout 20m ./...

deps:
	@tools/test-deps.sh

consul: ## build bin/consul for the tests, unless a consul is on PATH
	@tools/consul.sh

clients: consul ## fetch Kafka's Java clients, Streams and tools, and kafkajs, and test with them
	@tools/clients.sh
	go test -tags clients -count=1 -timeout 20m -v $(if $(RUN),-run '$(RUN)') ./e2e/clients

# A random World runs on one goroutine, so few of them will do here.
race: consul ## run the tests with the race detector, but for those of the real binary
	COUNT=$(or $(COUNT),5) go test -race -timeout 20m $$(go list ./... | grep -v /e2e)

lint: ## vet the code and run the linters of .golangci.yml
	go vet -tags clients ./...
	$(LINT) run ./...
	$(BUF) lint

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')
	$(BUF) format -w

proto: ## regenerate messages/wire from its .proto files
	$(BUF) generate

proto-check: proto ## fail if the generated code is not what the .proto files say
	@git diff --exit-code -- messages/wire || \
		{ echo 'messages/wire is stale: run "make proto" and commit the result' >&2; exit 1; }

fuzz: ## run every fuzz target for FUZZTIME (20s)
	@tools/fuzz.sh $(FUZZTIME)

sim: ## run random Worlds: COUNT=n of them (100), SEED=n the first; RUN=regexp for scenarios
	SEED='$(SEED)' COUNT='$(or $(COUNT),$(if $(SEED),1,100))' \
		go test -count=1 -timeout 2h -run '$(or $(RUN),RandomWorlds)' ./testkit/sim

chaos: consul ## kill KILLS (20) leaders under load, stop Consul for 60 s, and print what it did to clients
	CHAOS_KILLS=$(KILLS) CHAOS_CONSUL_AWAY=60s go test -count=1 -timeout 60m -v \
		-run 'Death|Rolling|Paused|Consul' ./e2e/cluster | grep -v '^=== '

eos: KILLS = 60
eos: consul ## copy RECORDS (1,000,000) exactly once while KILLS (60) processes are killed
	EOS_RECORDS=$(RECORDS) EOS_KILLS=$(KILLS) go test -count=1 -timeout 120m -v \
		-run 'ExactlyOnce' ./e2e/cluster | grep -v '^=== '

sdk: consul ## programs with the SDK while KILLS (20) leaders are killed, nodes restart, Consul is away
	SDK_KILLS=$(KILLS) CHAOS_CONSUL_AWAY=60s go test -count=1 -timeout 60m -v \
		-run 'SDK' ./e2e/cluster | grep -av '^=== '

groups: ## members join, leave and die in a group of MEMBERS (100) over PARTS (1,000) partitions
	GROUP_MEMBERS=$(MEMBERS) GROUP_PARTITIONS=$(PARTS) go test -count=1 -timeout 20m -v \
		-run 'PartitionsThatStay' ./e2e | grep -v '^=== '

bench: build ## measure the node beside an ideal broker, in one run (ONLY=regexp of workloads)
	go run ./bench -troupe bin/troupe -only '$(ONLY)'

bench-peers: build consul ## measure it beside Kafka and NATS too, and write docs/performance.md
	go run ./bench -troupe bin/troupe -peers -document docs/performance.md

bench-smoke: build ## fail if the node got much slower than it was, beside the ideal broker
	go run ./bench -troupe bin/troupe -smoke

check: lint test race proto-check ## everything CI runs

clean: ## delete what was built (never ./data)
	rm -rf bin

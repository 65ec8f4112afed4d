SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := $(CURDIR)/.bin
export PATH := $(BIN):$(PATH)
FUZZTIME ?= 30s
PROGRAMS := hypervisord hyperctl hyperexport vcentersim
# What a test may take in all; the tests on a real libvirtd boot guests under software emulation.
TEST_TIMEOUT := 15m

.PHONY: help build test check lint generate check-generate proto-lint proto-breaking checklist demo run bench bench-api bench-export bench-convert bench-hypervisor bench-srpc interop-stock fuzz ci deps tools fmt

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build all programs into bin/
	go build -o bin/ $(addprefix ./cmd/,$(PROGRAMS))

deps: ## install the Debian packages that are missing (as root)
	scripts/install-deps.sh

test: deps ## run everything, the tests on a real libvirtd included
	go test -race -shuffle=on -timeout $(TEST_TIMEOUT) ./...

check: lint proto-lint proto-breaking check-generate ## lint, schema rules, generated code is current
	go vet ./...
	go build ./...

# The tools are built once; their own go.mod pins them.
$(BIN)/.built: tools/go.mod tools/go.sum
	mkdir -p $(BIN)
	go build -C tools -o $(BIN)/ tool
	touch $@

tools: $(BIN)/.built ## build golangci-lint and buf

lint: tools ## run golangci-lint
	golangci-lint run ./...

fmt: tools ## format the code
	golangci-lint fmt ./...
	buf format -w proto

proto-lint: tools ## check the schema's style
	buf lint
	buf format -d --exit-code proto

proto-breaking: tools ## compare the schema with the last committed descriptor
	@if git cat-file -e HEAD:gen/hyperplane.binpb 2>/dev/null; then \
		mkdir -p .cache && git show HEAD:gen/hyperplane.binpb > .cache/base.binpb && buf build -o .cache/now.binpb && buf breaking .cache/now.binpb --against .cache/base.binpb; \
	fi

generate: tools ## write everything below gen/
	rm -rf gen && mkdir -p gen
	buf generate
	buf generate --template buf.gen.srpc.yaml
	buf build -o gen/hyperplane.binpb
	scripts/embed-openapi.sh

check-generate: tools ## prove that gen/ is what the schema gives
	scripts/check-generate.sh

checklist: ## write API_CHECKLIST.md from the schema and the parity test
	go test -timeout 5m ./server/parity -run TestParity -update

demo: deps build ## export a VM from a vCenter, convert it, boot it on libvirt, tear everything down
	go run ./test/demo

run: build ## run the daemon on defaults, on this host's loopback only, with its state in .cache/run
	mkdir -p .cache/run
	@echo "in another terminal: bin/hyperctl --server unix://$(CURDIR)/.cache/run/sock status"
	bin/hypervisord --state-dir $(CURDIR)/.cache/run/state --socket $(CURDIR)/.cache/run/sock --listen 127.0.0.1:8080 --listen 127.0.0.1:6976

bench: bench-api bench-export bench-convert bench-hypervisor bench-srpc ## run all benchmarks

bench-api: build ## GetVmInfo over gRPC and REST against a bare grpc-go server
	go run ./test/bench/api

bench-export: deps build ## an export against govc export.ovf and qemu-img convert
	go run ./test/bench/export

SIZE ?= 4GiB

bench-convert: deps build ## all pairs of disk formats against qemu-img, on a disk of SIZE (4GiB)
	go run ./test/bench/convert -size $(SIZE)

bench-hypervisor: deps build ## 10,000 VMs: calls, start, updates to 1,000 watchers; a start on libvirt against virsh
	go run ./test/bench/hypervisor

bench-srpc: build ## calls over SRPC and what they cost, beside gRPC; updates to 100 watchers
	go run ./test/bench/srpc

interop-stock: build ## run programs of the Dominator project from STOCK_BIN=DIRECTORY against ours, as root, in a network namespace of their own
	go build -o .cache/interop-stock ./test/stock
	unshare --net -- sh -c 'ip link set lo up && ip link add site type bridge && ip address add 192.0.2.1/24 dev site && ip link set site up && \
		exec .cache/interop-stock -bin "$(STOCK_BIN)"'

fuzz: ## run each fuzz target for FUZZTIME (30s)
	scripts/fuzz.sh $(FUZZTIME)

ci: check test ## what .ci/run runs

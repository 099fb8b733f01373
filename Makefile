# Every target installs what it needs: a virtual environment in .venv, and, as root, Debian packages.
.DEFAULT_GOAL := help
.PHONY: test-install release pictures help run discover doctor stack test test-rules compare-rules check bench soak format constraints clean test-programs
SHELL := /bin/sh

BIN := .venv/bin
# many tests wait: four workers are faster than two on two cores; the longest files come early in their own order
PARALLEL := -n 4 --dist loadfile --no-loadscope-reorder
BUILD := pyproject.toml hatch_build.py $(wildcard npm/* requirements/*.txt)

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/	/' | expand -t 13

run: .venv/run.stamp ## start the exporter (more flags: make run ARGS="--log.level=debug")
	@$(BIN)/modelhost-exporter $(ARGS)

discover: .venv/run.stamp ## find the engines of this machine, or another (make discover ARGS=gpu-1)
	@$(BIN)/modelhost-exporter discover $(ARGS)

doctor: .venv/run.stamp ## say what is missing on this machine (with the flags of make run, if any: make doctor ARGS="...")
	@$(BIN)/modelhost-exporter doctor $(ARGS)

stack: .venv/run.stamp ## exporter, Prometheus and Grafana without Docker (make stack ARGS="--demo", "--demo=workstation", "--live", "--help")
	@-.ci/need prometheus prometheus
	@$(BIN)/python -m stack $(ARGS)

test: .venv/dev.stamp test-programs ## run the tests (some of them: make test ARGS="-k scrape")
	@$(BIN)/pytest $(PARALLEL) $(ARGS)

test-rules: .venv/dev.stamp ## run the tests of the rules in promtool 2 and 3 and vmalert-tool; builds the last two with Go
	@.ci/need promtool prometheus
	@.ci/need-go promtool vmalert-tool >/dev/null
	$(BIN)/pytest $(PARALLEL) tests/prometheus/test_rule_tests.py tests/autoscaling/test_rules.py $(ARGS)

test-install: .venv/dev.stamp ## install, upgrade and remove in a clean Debian (as root; makes it with debootstrap in .data)
	@.ci/debian-root .data/debian $(BIN)/python
	MODELHOST_TEST_DEBIAN=$(CURDIR)/.data/debian $(BIN)/pytest tests/install $(ARGS)

check: .venv/dev.stamp test-programs ## format, lint, types, retired names, generated files, tests, promtool
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tools.check_words
	$(BIN)/python -m tools.generate_docs --check
	$(BIN)/python -m grafana.build --check
	$(BIN)/pytest $(PARALLEL) || { echo "What failed runs once more, with nothing beside it:"; \
		$(BIN)/pytest --last-failed --last-failed-no-failures=none; }

coverage: .venv/dev.stamp test-programs ## run the tests with coverage; fails below the least that is accepted
	$(BIN)/coverage erase
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=
	$(BIN)/coverage report

bench: .venv/dev.stamp ## measure speed and memory, side by side with node_exporter and nginx
	@-.ci/need prometheus-node-exporter prometheus-node-exporter
	@-.ci/need nginx nginx-light
	@-.ci/need chromium chromium
	@-.ci/need promtool prometheus
	$(BIN)/python -m benchmarks.scrape $(ARGS)
	$(BIN)/python -m benchmarks.proxy
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/python -m benchmarks.model_servers
	$(BIN)/python -m benchmarks.page
	$(BIN)/python -m benchmarks.live
	$(BIN)/python -m benchmarks.dashboards

compare-rules: .venv/dev.stamp ## run the demo with all rules in Prometheus 3 and vmalert for 25 minutes, and list what differs
	@.ci/need-go prometheus vmalert victoria-metrics >/dev/null
	$(BIN)/python -m benchmarks.compare_rules $(ARGS)

pictures: .venv/dev.stamp ## take pictures of the dashboards in a running Grafana (make pictures GRAFANA=http://127.0.0.1:3000)
	@-.ci/need chromium chromium
	@$(BIN)/python -m tools.pictures "$(GRAFANA)"

soak: .venv/dev.stamp test-programs ## run the exporter under load and faults for 20 minutes; fails on growth (shorter: make soak ARGS="--minutes=3")
	$(BIN)/python -m benchmarks.soak $(ARGS)

format: .venv/dev.stamp ## format the code, write the generated parts of the documentation and the dashboards
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m tools.generate_docs
	$(BIN)/python -m grafana.build

release: .venv/dev.stamp ## build the wheel and the sdist of a release in dist/; fails while hatch_build.py names no repository
	MODELHOST_RELEASE=1 $(BIN)/python -m build --no-isolation --outdir dist .

constraints: .venv/made.stamp ## write requirements/*.txt with versions and hashes (newest versions: make constraints ARGS=--upgrade)
	@.ci/lock $(BIN)/python $(ARGS)

clean: ## remove everything that the targets created
	rm -rf .venv dist exporter/modelhost_exporter/page/static/uPlot.* .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

test-programs: # programs that tests run against
	@-.ci/need promtool prometheus
	@-.ci/need prometheus-alertmanager prometheus-alertmanager
	@-.ci/need cc build-essential
	@-.ci/need chromium chromium
	@-.ci/need npm npm
	@-.ci/need openssl openssl
	@-.ci/need curl curl
	@-.ci/need prometheus-node-exporter prometheus-node-exporter

.venv/made.stamp:
	@python=$$(.ci/python) && "$$python" -m venv .venv
	@touch $@

.venv/run.stamp: .venv/made.stamp $(BUILD)
	@.ci/install $(BIN)/python
	@touch $@

.venv/dev.stamp: .venv/made.stamp $(BUILD)
	@.ci/install $(BIN)/python dev
	@touch $@ .venv/run.stamp

# The commands of this project; `make` alone lists them.
SHELL := /bin/bash
STATE := .tfx-cassandra
RUN := .venv/bin
TYPES := $(STATE)/types/tfx_cassandra
PIN := $(RUN)/uv pip compile --quiet --upgrade --generate-hashes --extra demo --extra dev --extra kfp --extra otel setup.py
PIN_TORCH := $(RUN)/uv pip compile --quiet --upgrade --generate-hashes --no-annotate constraints/torch.in

.PHONY: help venv browser cluster cluster-stop demo bench-read bench-write bench-serving bench-sstable load test test-faults test-faults-all test-sanitized fuzz test-slow test-versions test-lane-b test-engines lint format proto constraints clean demo-ab demo-vertex demo-torch mutants wheel wheels sbom docs

help:  ## lists the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

venv:  ## makes .venv from the pinned packages of the newest lane that runs here (LANE=a or b to choose, PYTHON=...)
	@PYTHON="$(PYTHON)" LANE="$(LANE)" tools/venv

cluster: venv  ## starts the development Cassandra (NODES=3 for a ring of three)
	@$(RUN)/tfx-cassandra cluster start --nodes $(or $(NODES),1)

cluster-stop: venv  ## stops it; its data stays
	@$(RUN)/tfx-cassandra cluster stop

demo: venv  ## runs the flight-delay pipeline on a real Cassandra (DEMO="--help" for options)
	@$(RUN)/python -m tfx_cassandra.pipelines.flight_delay.demo $(DEMO)

bench-read: venv cluster  ## measures how fast Cassandra is read, here and by others (BENCH="--help" for options)
	@$(RUN)/python benchmarks/read/run.py $(BENCH)

bench-write: venv cluster  ## measures how fast Cassandra is written, here and by others (BENCH="--help" for options)
	@$(RUN)/python benchmarks/write/run.py $(BENCH)

bench-sstable: venv cluster  ## measures how fast SSTables are read, beside the server and others (BENCH="--help" for options)
	@$(RUN)/python benchmarks/sstable/run.py $(BENCH)

bench-serving: venv cluster  ## measures how fast the newest features of a key are read, here and by others (BENCH="--help" for options)
	@$(RUN)/python benchmarks/serving/run.py $(BENCH)

load: venv cluster  ## writes and reads features for LOAD minutes (10) without a pause, and says whether anything grows
	@$(RUN)/python benchmarks/load.py $(or $(LOAD),10) --plot docs/images/load.svg

demo-ab: venv  ## runs an A/B test of two versions of the flight-delay model (DEMO="--help" for options)
	@$(RUN)/python -m tfx_cassandra.pipelines.flight_delay.ab_demo $(DEMO)

demo-vertex: venv  ## compiles the demo's pipelines and runs the compiled files from a wheel (DEMO="--ab" for the A/B test)
	@tools/wheel-env $(STATE)/wheel-env
	@$(RUN)/python -m tfx_cassandra.pipelines.flight_delay.vertex_demo --python $(STATE)/wheel-env/bin/python $(DEMO)

demo-torch: venv  ## trains the flight-delay model in PyTorch on rows from Cassandra (DEMO="--help" for options)
	@tools/torch
	@$(RUN)/python -m tfx_cassandra.pipelines.flight_delay.torch_demo $(DEMO)

test: lint cluster browser  ## runs the whole test suite against the development cluster, with branch coverage (TESTS="-k scan" to choose)
	@tools/torch
	@TFX_CASSANDRA_REQUIRE_CLUSTER=1 TF_CPP_MIN_LOG_LEVEL=3 $(RUN)/python -m pytest -n 3 --dist loadfile --cov --cov-report= $(TESTS)

browser:  ## installs Chromium for the tests of the status page where it may (root on Debian or Ubuntu)
	@tools/chromium

test-lane-b: cluster  ## runs the test suite on lane B, in a Debian 13 root where glibc is too old (TESTS=... to choose)
	@tools/test-lane-b $(TESTS)

test-faults: venv  ## runs the tests of slow, overloaded and broken nodes, on a node of their own
	@TF_CPP_MIN_LOG_LEVEL=3 $(RUN)/python -m pytest tests/faults $(TESTS)

test-faults-all: venv  ## runs seeded faults on a ring of three (SEEDS=17-17 to choose), and tests of rings, disks, clocks and schemas that change
	@tools/torch
	@TFX_CASSANDRA_FAULT_SEEDS=$(or $(SEEDS),0-109) TFX_CASSANDRA_FAULT_RESULTS=$(CURDIR)/$(STATE)/faults.jsonl TF_CPP_MIN_LOG_LEVEL=3 \
	  $(RUN)/python -m pytest tests/faults -m slow $(TESTS)

test-sanitized: venv  ## tests the compiled parts with AddressSanitizer and UBSan (TESTS="tests/cql/test_rows.py" to choose)
	@tools/test-sanitized $(TESTS)

fuzz: venv  ## fuzzes the compiled parts, guided by coverage, with AddressSanitizer and UBSan (FUZZ="rows 5000000" to choose)
	@tools/fuzz $(FUZZ)

test-versions: venv  ## runs the read, write and registry tests on each Cassandra release that is known (VERSIONS="4.1 5.0.9" to choose)
	@tools/test-versions $(VERSIONS)

test-engines: cluster  ## runs pipelines on a real Spark and Flink and in several processes, kills workers, and prints what each gave
	@tools/engines
	@TFX_CASSANDRA_REQUIRE_CLUSTER=1 TF_CPP_MIN_LOG_LEVEL=3 $(RUN)/python -m pytest tests/engines -m engines $(TESTS)

test-slow: cluster  ## runs the tests that take minutes: millions of rows, thousands of made tables
	@TFX_CASSANDRA_REQUIRE_CLUSTER=1 TF_CPP_MIN_LOG_LEVEL=3 $(RUN)/python -m pytest -m slow $(TESTS)

mutants: venv  ## says which changes of a module its tests miss (MODULE=... TESTS=...)
	@TF_CPP_MIN_LOG_LEVEL=3 $(RUN)/python tools/mutants $(MODULE) $(TESTS)

lint: venv  ## checks style, types, and that folders import downwards only
	@$(RUN)/ruff check . && $(RUN)/ruff format --check --quiet .
	@mkdir -p $(TYPES) && ln -sfn $(addprefix $(CURDIR)/,components pipelines kubeflow proto) $(TYPES)/
	@MYPYPATH=$(STATE)/types $(RUN)/mypy --cache-dir $(STATE)/mypy -p tfx_cassandra.components -p tfx_cassandra.kubeflow \
	  -p tfx_cassandra.pipelines
	@$(RUN)/lint-imports --no-logo --cache-dir $(STATE)/imports

wheel: venv  ## builds a wheel of this checkout into dist/
	@$(RUN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w dist .

wheels: venv  ## builds and checks a manylinux wheel for each Python found here
	@tools/wheels

sbom: venv  ## writes a bill of materials (CycloneDX) of each lane's pinned packages into dist/
	@mkdir -p dist
	@for lane in a b; do $(RUN)/uv run --quiet --no-project --isolated --python $(RUN)/python --with 'cyclonedx-bom>=7,<8' \
	  cyclonedx-py requirements --output-reproducible -o dist/sbom-lane-$$lane.json constraints/lane-$$lane.txt && echo dist/sbom-lane-$$lane.json; done

docs: venv  ## builds the documentation site, checks its links and names, and prints where it is
	@tools/docs

format: venv  ## formats the code
	@$(RUN)/ruff check --fix --quiet . ; $(RUN)/ruff format --quiet .

proto: venv  ## generates proto/*_pb2.py; this protoc's code imports under protobuf 3.20 and 6
	@mkdir -p $(STATE)/proto
	@$(RUN)/uv run --quiet --no-project --isolated --python $(RUN)/python --with 'grpcio-tools==1.62.3' \
	  --with 'setuptools<81' python -m grpc_tools.protoc -Itfx_cassandra/proto=proto --python_out=$(STATE)/proto \
	  --pyi_out=$(STATE)/proto $(patsubst proto/%,tfx_cassandra/proto/%,$(wildcard proto/*.proto))
	@cp $(STATE)/proto/tfx_cassandra/proto/*_pb2.py* proto/

constraints: venv  ## pins every package of both lanes, of PyTorch and of the site anew, with hashes (constraints/*.txt)
	@$(PIN) --python-version 3.10 constraints/lane-a.in --output-file constraints/lane-a.txt
	@$(PIN) --python-version 3.11 --universal constraints/lane-b.in --output-file constraints/lane-b.txt
	@$(PIN_TORCH) --python-version 3.10 -c constraints/lane-a.txt --output-file constraints/torch-a.txt
	@$(PIN_TORCH) --python-version 3.11 --universal -c constraints/lane-b.txt --output-file constraints/torch-b.txt
	@$(RUN)/uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.10 constraints/docs.in \
	  --output-file constraints/docs.txt

clean:  ## stops the cluster and removes its data, logs and all other state (not .venv, not the user's cache)
	@[ ! -x $(RUN)/tfx-cassandra ] || $(RUN)/tfx-cassandra cluster stop
	@rm -rf $(STATE) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

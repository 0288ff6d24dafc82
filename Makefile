# The verbs that people and CI use.  Thin: each calls a tool.
.PHONY: setup demo test lint types unit crash soak bench bench-micro docs clean
# More at a time than there are cores: most tests wait for a disk, a kernel or a server.
PYTEST = .venv/bin/python -m pytest -q --dist worksteal

setup:            ## .venv with the kvfs command in it
	@.ci/setup

demo: setup       ## mount real tarballs and run ordinary programs over them
	@.venv/bin/python benchmarks/demo.py

dev:              ## .venv with what the tests need too
	@.ci/setup dev

test: dev lint types unit  ## everything that has to pass

lint:
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .

types:            ## each folder of tests by itself: they share module names
	.venv/bin/mypy core/src plugins/kv/*/src plugins/backing/*/src plugins/frontends/*/src benchmarks docs
	@for tests in core/tests/[!_]*/ plugins/*/*/tests/ tests/*/; do .venv/bin/mypy $$tests || exit 1; done
	.venv/bin/mypy core/tests/*.py

unit:             ## each member by itself, as it would be tested on its own; then what crosses them
	@for member in core plugins/_template/* plugins/kv/* plugins/backing/* plugins/frontends/*; do \
		echo "== $$member"; $(PYTEST) -n 4 $$member/tests || exit 1; done
	@echo "== tests"; $(PYTEST) -n 3 --ignore tests/hosts tests
	@echo "== tests/hosts"; $(PYTEST) -n 3 tests/hosts # by themselves: their namespaces keep mounts of others alive

crash: dev        ## a thousand kills and hundreds of power cuts of every engine (hours)
	.venv/bin/python -m kvfs.testing.crash --kills 1000
	.venv/bin/python -m kvfs.testing.crash --kills 300 --writers 3
	.venv/bin/python -m kvfs.testing.crash --kills 300 --kill-server
	.venv/bin/python -m tests.crash.power --cuts 300
	.venv/bin/python -m kvfs.testing.crash.mounted --kills 250

soak: dev         ## two hundred thousand random system calls, beside ext4 (a few hours)
	.venv/bin/python -m tests.mount.dual_root.soak --steps 100000
	.venv/bin/python -m tests.mount.dual_root.soak --steps 100000 --inside tarball

bench: setup      ## the figures of benchmarks/README.md (an hour, and 20 GB of disk)
	.venv/bin/python -m pip install -q ratarmount -e ./benchmarks
	@for suite in ingest large catalogue mount kv size; do .venv/bin/kvfs bench $$suite || exit 1; done

bench-micro: dev  ## each call of every engine, a table for each operation and durability
	.venv/bin/python -m pytest -q -k bench --benchmark-only --benchmark-sort=median \
		--benchmark-columns=min,median,iqr,ops,rounds \
		core/tests/conformance/test_kv_memory.py::TestMemory plugins/kv/*/tests/test_conformance.py

docs: dev         ## write the generated tables of docs/reference anew
	.venv/bin/python docs/generate.py

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache

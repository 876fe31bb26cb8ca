# Everything installs into .venv; nothing but Python (>= 3.11) and make is needed on the machine.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO ?= demo
PHOTOS := astronaut.png chelsea.png coffee.png rocket.jpg  # of scikit-image
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder  # two processes, a file's tests in one of them

.PHONY: demo demo-explorer demo-beside demo-pages demo-atlas test fast lint docs bench clean

demo: .venv/.demo  ## install, and open the explorer of the embedded network; without a terminal, build, check and export it
	@if [ -t 1 ]; then $(MAKE) --no-print-directory -j 2 demo-explorer demo-beside; \
	else $(MAKE) --no-print-directory demo-pages demo-atlas; fi

# the explorer serves until Ctrl-C, and fills the atlas that it shows; the pages are written meanwhile
demo-explorer: $(DEMO)/photos
	@$(BIN)/weightatlas open efficientnet_lite0 -o $(DEMO)/atlas --layers 'blocks.*' --images $(DEMO)/photos

demo-beside: $(DEMO)/photos
	@echo "in a few minutes there are $(DEMO)/index.html, $(DEMO)/own/index.html, $(DEMO)/explain.svg and $(DEMO)/article/index.html as well ($(DEMO)/pages.log)"
	@$(MAKE) --no-print-directory demo-pages > $(DEMO)/pages.log 2>&1 || echo "pages were not finished: see $(DEMO)/pages.log"

demo-pages: $(DEMO)/photos
	$(BIN)/weightatlas overview efficientnet_lite0 -o $(DEMO)
	$(BIN)/python examples/own_network.py $(DEMO)/own
	$(BIN)/weightatlas explain efficientnet_lite0 $(DEMO)/photos/chelsea.png --unit blocks.5.0:150 --down 2 \
	  --source blocks.4.2 --source blocks.3.2 --follow 96 --recipe quick -o $(DEMO)/explain.svg
	$(BIN)/weightatlas article efficientnet_lite0 -o $(DEMO)/article --recipe quick --images $(DEMO)/photos

demo-atlas: $(DEMO)/photos
	$(BIN)/weightatlas build efficientnet_lite0 -o $(DEMO)/atlas --layers 'blocks.*' --images $(DEMO)/photos --stop-after 2min
	$(BIN)/weightatlas check $(DEMO)/atlas
	$(BIN)/weightatlas export $(DEMO)/atlas -o $(DEMO)/site

$(DEMO)/photos: .venv/.demo
	mkdir -p $@
	cp $(PHOTOS:%=.venv/lib/python3*/site-packages/skimage/data/%) $@/

test: .venv/.dev lint docs  ## install, and run everything CI runs: lint, docs, all tests
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

fast: .venv/.dev  ## the tests that take less than a few seconds each
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow"

lint: .venv/.dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: .venv/.dev  ## build docs/_build/html, running every example; warnings are errors
	$(BIN)/python -m sphinx -j 4 -W --keep-going -q -b html docs docs/_build/html

bench: .venv/.dev  ## measure against named peers
	$(BIN)/python benchmarks/factor.py
	$(BIN)/python benchmarks/expanded.py
	$(BIN)/python benchmarks/agreement.py
	$(BIN)/python benchmarks/atlas.py
	$(BIN)/python benchmarks/explorer.py
	$(BIN)/python benchmarks/lens.py
	$(BIN)/python benchmarks/matrix.py

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "weightatlas needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 demo")'
	$(PYTHON) -m venv .venv

.venv/.demo: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[demo]'
	touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[test,lint,docs,bench]'
	touch $@ .venv/.demo

clean:
	rm -rf .venv demo docs/_build

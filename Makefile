# Two commands: `make demo` (the main job, report at the end; another chemical system: `make demo ELEMENTS=Li,O DEMO=li-o`) and `make test` (everything that must hold).
# `make docs` writes the pages of docs/ and those of the API to site/.

PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
ELEMENTS ?= Mg,O

BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
export MPLBACKEND := Agg
export PYTHONUNBUFFERED := 1

.PHONY: demo test browser docs
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed
	OMP_NUM_THREADS=1 mlcalc discover --elements $(ELEMENTS) --generator wyckoff --number 60 --atoms 1-6 --seed 3 \
		--potential sevennet-0 --reference-atoms 4 --phonons 6 --mesh-phonons 2 --dynamics 2 --md-steps 300 --workers 2 --out $(DEMO)

test: export OMP_NUM_THREADS = 1
test: browser $(VENV)/.installed
	ruff check .
	ruff format --check .
	mypy
	pytest -n 2 --dist loadgroup
	python tests/mutation.py

# Pages of reports are tested in a browser; without one those tests are skipped, and pytest says so.
browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name > /dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		timeout 120 apt-get update -qq && timeout 300 apt-get install -qq --no-install-recommends chromium && exit 0; \
	fi; \
	echo "no Chromium: install chromium to test pages in a browser"

docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.installed
	mkdocs build --strict
	@echo "open site/index.html; for searching, python -m http.server -d site"

# A fresh environment whenever the list of requirements changed; an interrupted installation leaves no stamp.
$(VENV)/.installed: setup.py pyproject.toml
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[all,test]'
	touch $@

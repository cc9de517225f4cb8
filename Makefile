# Every target needs only python3 with venv. `make demo` and `make test` are the two commands of the README.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo

.PHONY: demo test fuzz lint format docs ladder studies studies-gpu results clean

# installed again whenever what is asked for changes
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/regrow demo --out $(DEMO)

# bytecode is kept, whatever the environment says: the tests start many interpreters, which would compile it anew
test: $(VENV)/.installed
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

# some 12,000 broken inputs of six kinds; the gate asks a few of each
fuzz: $(VENV)/.installed
	REGROW_FUZZ=2000 $(BIN)/python -m pytest tests/test_fuzz.py -n auto

lint: $(VENV)/.installed
	$(BIN)/ruff check src tests benchmarks scripts
	$(BIN)/ruff format --check src tests benchmarks scripts
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed
	$(BIN)/ruff check --fix src tests benchmarks scripts
	$(BIN)/ruff format src tests benchmarks scripts

# the documentation as a site in build/site: its reference pages written from the code, its notebooks run
docs: $(VENV)/.docs
	$(BIN)/python scripts/make_reference.py
	$(BIN)/python scripts/make_notebooks.py
	$(BIN)/zensical build --strict

# corpus, tokenizer and models from nothing: hours on two cores; needs Debian or Ubuntu for the documentation packages
ladder: $(VENV)/.installed
	$(BIN)/regrow ladder build

# the reference studies from nothing: hours on two cores; goes on where it stopped
STUDIES := ladder-llama ladder-qwen2 ladder-llama-distilled smollm2 long-llama long-qwen2 recipe-llama \
  recipe-llama-text drift-llama drift-llama-mixed
# minutes each on a GPU, far too long on a CPU
GPU_STUDIES := smollm2-10m long-llama-10m
RUN_STUDIES = for study in $(1); do \
	  $(BIN)/regrow study studies/$$study.yaml --out build/studies/$$study && \
	  $(BIN)/regrow runs export build/studies/$$study --out studies/$$study.jsonl || exit 1; done
studies: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt gguf
	$(BIN)/python -m benchmarks.models.smollm2 --cache build/smollm2
	$(BIN)/python -m benchmarks.data.other_text --out build/other-text
	$(BIN)/python -m benchmarks.data.mixed_text --out build/mixed-text
	$(call RUN_STUDIES,$(STUDIES))

studies-gpu: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt gguf
	$(BIN)/python -m benchmarks.models.smollm2 --cache build/smollm2
	$(BIN)/python -m benchmarks.models.larger_rung --out build/tiny-llama-10m
	$(call RUN_STUDIES,$(GPU_STUDIES))

# docs/results.md and its pictures from the studies' records
results: $(VENV)/.installed
	$(BIN)/python scripts/make_results.py

clean:
	rm -rf $(VENV) $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

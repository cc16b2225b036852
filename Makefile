PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FRESH ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "a table shows at once what docs/results keeps, and makes the rest; WORDS='seeds=[0] anew=true' makes it all here"

.PHONY: setup
setup: $(STAMP) ## make .venv with the pinned packages (two minutes, 6 GB)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.PHONY: demo
demo: $(STAMP) ## pretrain SimCLR on embedded photographs, two to eleven minutes on two cores, and compare (FRESH=1 trains again)
	$(if $(FRESH),rm -rf outputs/demo)
	$(BIN)/python -m ssl_lab.train experiment=demo
	$(BIN)/python -m ssl_lab.evaluate run=outputs/demo baselines=[raw_pixels,color_statistics,random_weights]

.PHONY: lint
lint: $(STAMP) ## lint, format, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: lint ## lint, then the tests (ten to twenty minutes on two cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses auto --nbmake tests notebooks

.PHONY: test-slow
test-slow: $(STAMP) ## the tests that train for minutes, or are killed again and again (hours on two cores)
	$(BIN)/python -m pytest -m slow

.PHONY: worth
worth: $(STAMP) ## is pretraining worth it on your images? DATA=<folder or archive> WORDS='data.store_size=64 …' (40 minutes)
	$(BIN)/python -m ssl_lab.worth "data.root=$(DATA)" $(WORDS)

EVERY = "protocol=[knn,logistic,few_label,few_label_finetune,linear,finetune,stages,cluster,retrieval,robust,health]" \
	"baselines=[random_weights,raw_pixels,color_statistics,kmeans_features]" \
	"protocols.robust.severities=[3]" "protocols.finetune.rates=[0.03]" \
	"protocols.few_label_finetune.rates=[0.03]" protocols.few_label_finetune.draws=3 protocols.few_label_finetune.folds=1

.PHONY: protocols-cifar10
protocols-cifar10: $(STAMP) ## SimCLR on CIFAR-10 and every baseline under eleven protocols (under three hours on a thread)
	$(BIN)/python -m ssl_lab.train experiment=cifar10_cpu method=simclr loss=nt_xent_sharp views=simclr_cifar_4x20 probe=none \
		paths.out=outputs/protocols
	$(BIN)/python -m ssl_lab.evaluate run=outputs/protocols/cifar10_cpu paths.out=outputs/protocols $(EVERY) \
		"protocols.few_label.amounts=[0.01]" protocols.linear.epochs=5 protocols.finetune.epochs=5 \
		save=docs/results/protocols/cifar10.md

.PHONY: protocols-tiny20
protocols-tiny20: $(STAMP) ## the same on 20 classes of Tiny ImageNet, DATA=<tiny-imagenet-20.tar.xz> (under two hours on a thread)
	$(BIN)/python -m ssl_lab.train experiment=worth "data.root=$(DATA)" paths.out=outputs/protocols
	$(BIN)/python -m ssl_lab.evaluate run=outputs/protocols/worth paths.out=outputs/protocols $(EVERY) \
		protocols.knn.k=20 protocols.few_label.draws=3 protocols.linear.epochs=20 protocols.finetune.epochs=20 \
		protocols.finetune.min_steps=300 save=docs/results/protocols/tiny20.md

.PHONY: bench
bench: $(STAMP) ## measure what docs/performance.md says of speed, as ratios in one run
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m benchmarks

.PHONY: table-cifar10-cpu
table-cifar10-cpu: $(STAMP) ## every method on CIFAR-10 at equal compute: kept; anew 36 runs of 13 to 36 minutes on one thread, and evaluation
	$(BIN)/python -m ssl_lab.table name=cifar10-cpu $(WORDS)

.PHONY: table-cifar10-short
table-cifar10-short: $(STAMP) ## one epoch and ten of ResNet-18 on CIFAR-10: kept; anew about six hours for seed 0 on two cores
	$(BIN)/python -m ssl_lab.table name=cifar10-short split=test at_once=1 $(WORDS)

.PHONY: table-tiny20-cpu
table-tiny20-cpu: $(STAMP) ## seven methods on 20 classes of Tiny ImageNet at equal compute: kept; anew 21 runs, 8 to 11 minutes a split on an H200
	$(BIN)/python -m ssl_lab.table name=tiny20-cpu $(WORDS)

.PHONY: table-ablation-simclr
table-ablation-simclr: $(STAMP) ## temperature x batch x projector: 54 runs of 1e14 FLOPs, two thirds of a run of table-cifar10-cpu
	$(BIN)/python -m ssl_lab.table name=ablation-simclr $(WORDS)

.PHONY: table-cifar10
table-cifar10: $(STAMP) ## 24 recipes of 200 to 1000 epochs, three seeds, for a GPU: 4e16 to 5e17 FLOPs a run, 1.4e19 in all
	$(BIN)/python -m ssl_lab.table name=cifar10 split=test $(WORDS)

.PHONY: table-cifar100
table-cifar100: $(STAMP) ## five recipes of 1000 epochs, three seeds, for a GPU: 4e17 to 5e17 FLOPs a run, 6.5e18 in all
	$(BIN)/python -m ssl_lab.table name=cifar100 split=test $(WORDS)

.PHONY: table-imagenet100
table-imagenet100: $(STAMP) ## five recipes of 400 epochs, three seeds, for GPUs: 1.1e18 to 1.5e18 FLOPs a run, 1.9e19 in all
	$(BIN)/python -m ssl_lab.table name=imagenet100 $(WORDS)

.PHONY: table-imagenet
table-imagenet: $(STAMP) ## the papers' recipes for ResNet-50, for eight GPUs and more: 6e18 to 8e19 FLOPs a run, 3.9e20 in all
	$(BIN)/python -m ssl_lab.table name=imagenet $(WORDS)

.PHONY: format
format: $(STAMP) ## let ruff rewrite the files
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

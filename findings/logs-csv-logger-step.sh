#!/usr/bin/env bash
# Lightning's CSVLoggers overwrite a metric that is itself called `step`, without a word.
#
# lightning 2.6.6 (Fabric's and the Trainer's CSVLogger), torch 2.13.0, seen 2026-11-28 on Python 3.11. `log_metrics({"step":
# 4, ...}, step=31)` writes 31 in the column `step`. litgpt 0.5.13 logs its optimizer steps so, at the number of the
# micro-batch, so that its metrics.csv has micro-batches under `step` and the optimizer steps are lost. In a
# TensorBoard log of the same run, both are there.
#
# Output seen:
#   lightning.fabric.loggers.csv_logs: [{'loss': '2.9', 'step': '31'}]
#   lightning.pytorch.loggers.csv_logs: [{'loss': '2.9', 'step': '31'}]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 lightning==2.6.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'P'
import csv
from pathlib import Path

from lightning.fabric.loggers import CSVLogger as Fabric
from lightning.pytorch.loggers import CSVLogger as Trainer

for kind in (Fabric, Trainer):
    logger = kind(kind.__module__)
    logger.log_metrics({"loss": 2.9, "step": 4}, step=31)
    logger.save()
    (file,) = Path(kind.__module__).rglob("metrics.csv")
    rows = [dict(sorted(row.items())) for row in csv.DictReader(file.open())]
    print(f"{kind.__module__}: {rows}")
    assert rows == [{"loss": "2.9", "step": "31"}], "the logger has changed"
P

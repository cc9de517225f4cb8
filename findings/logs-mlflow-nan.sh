#!/usr/bin/env bash
# MLflow's SQL store keeps a NaN metric as the number 0 and marks it in a second column.
#
# mlflow 3.17.2 (mlflow-skinny), SQLite store, seen 2026-11-28 on Python 3.11. A metric that was logged as NaN is a row
# of the table `metrics` with value 0.0 and is_nan 1. Who reads key, step and value alone, as an export of the table
# does, gets a loss of 0 in the middle of a curve. The client itself answers NaN.
#
# Output seen:
#   in the table: [(10, 2.9, 0), (20, 0.0, 1)]
#   from the client: [2.9, nan]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check mlflow-skinny==3.17.2 sqlalchemy==2.0.51 alembic==1.20.1
cd "$work"
"$work/venv/bin/python" - <<'P'
import math
import sqlite3

import mlflow

mlflow.set_tracking_uri("sqlite:///store.db")
with mlflow.start_run() as run:
    mlflow.log_metric("eval_loss", 2.9, step=10)
    mlflow.log_metric("eval_loss", float("nan"), step=20)
rows = sqlite3.connect("store.db").execute("SELECT step, value, is_nan FROM metrics ORDER BY step").fetchall()
history = [m.value for m in mlflow.MlflowClient().get_metric_history(run.info.run_id, "eval_loss")]
print("in the table:", rows)
print("from the client:", history)
assert rows == [(10, 2.9, 0), (20, 0.0, 1)], "the table has changed"
assert history[0] == 2.9 and math.isnan(history[1]), "the client has changed"
P

#!/usr/bin/env bash
# MLflow no longer writes to a folder: a `file:` tracking URI, the default for years, is refused.
#
# mlflow 3.17.2 (mlflow-skinny), seen 2026-11-28 on Python 3.11. `set_tracking_uri("file:...")` is accepted, and the next
# call raises MlflowException ("in maintenance mode"), unless the environment has MLFLOW_ALLOW_FILE_STORE=true. Without a
# tracking URI a new project gets the database mlflow.db in the working folder, and no folder of metrics.
#
# Output seen:
#   file: MlflowException: The filesystem tracking backend (e.g., './mlruns') is in maintenance mode
#   allowed: eval_loss in a file: 2.9 10
#   default: mlflow.db is a database with 1 metric
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check mlflow-skinny==3.17.2 sqlalchemy==2.0.51 alembic==1.20.1
mkdir "$work/one" "$work/two" "$work/three"
cat > "$work/log.py" <<'P'
import sys

import mlflow

if len(sys.argv) > 1:
    mlflow.set_tracking_uri(sys.argv[1])
with mlflow.start_run():
    mlflow.log_metric("eval_loss", 2.9, step=10)
P
unset MLFLOW_TRACKING_URI MLFLOW_ALLOW_FILE_STORE
cd "$work/one"
if "$work/venv/bin/python" ../log.py "file:$work/one/mlruns" 2> err; then
    echo "a file store is accepted again"
    exit 1
fi
grep -q "MlflowException.*maintenance mode" err
echo "file: MlflowException: $(grep -o "The filesystem tracking backend.*maintenance mode" err | head -1)"
cd "$work/two"
MLFLOW_ALLOW_FILE_STORE=true "$work/venv/bin/python" ../log.py "file:$work/two/mlruns" 2> /dev/null
value=$(cut -d' ' -f2,3 "$(find mlruns -path '*metrics/eval_loss')")
[ "$value" = "2.9 10" ]
echo "allowed: eval_loss in a file: $value"
cd "$work/three"
"$work/venv/bin/python" ../log.py 2> /dev/null
[ ! -e mlruns ] || [ -z "$(find mlruns -path '*metrics/*' -type f)" ]
"$work/venv/bin/python" -c "
import sqlite3
n = sqlite3.connect('mlflow.db').execute('SELECT count(*) FROM metrics').fetchone()[0]
assert n == 1, n
print('default: mlflow.db is a database with', n, 'metric')"

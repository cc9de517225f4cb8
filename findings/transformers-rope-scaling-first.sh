#!/usr/bin/env bash
# Where a config has both, transformers 5 takes `rope_scaling` and leaves `rope_parameters` out, without a word.
#
# transformers 5.23.0, seen 2026-11-28 on Python 3.11. `rope_parameters` is the field of version 5 and `rope_scaling` the
# old one. A config.json that carries both, so that either version can read it, is read by the old field: the value of
# `rope_parameters` is replaced, its `rope_theta` included, which is then looked for at the top level and otherwise
# taken to be 10000. So someone who edits `rope_parameters` alone, to extend the context, changes nothing. The
# nested mapping that is given to the config class is changed in place as well (`rope_theta` is put into it).
#
# Output seen:
#   both fields: theta 10000.0, factor 2.0
#   with rope_theta beside them: theta 500000.0, factor 2.0
#   rope_parameters alone: theta 500000.0, factor 8.0
#   the mapping given: {'rope_type': 'linear', 'factor': 2.0, 'rope_theta': 10000.0}
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check transformers==5.23.0
venv/bin/python -W ignore - 2>/dev/null <<'P' | tee seen
from transformers import LlamaConfig

new = {"rope_type": "linear", "factor": 8.0, "rope_theta": 500000.0}
old = {"rope_type": "linear", "factor": 2.0}


def show(what, **fields):
    found = LlamaConfig(**fields).rope_parameters
    print(f"{what}: theta {found['rope_theta']}, factor {found['factor']}")


given = dict(old)
show("both fields", rope_parameters=dict(new), rope_scaling=given)
show("with rope_theta beside them", rope_parameters=dict(new), rope_scaling=dict(old), rope_theta=500000.0)
show("rope_parameters alone", rope_parameters=dict(new))
print("the mapping given:", given)
P
cat > expected <<'E'
both fields: theta 10000.0, factor 2.0
with rope_theta beside them: theta 500000.0, factor 2.0
rope_parameters alone: theta 500000.0, factor 8.0
the mapping given: {'rope_type': 'linear', 'factor': 2.0, 'rope_theta': 10000.0}
E
diff expected seen

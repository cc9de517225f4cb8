#!/usr/bin/env bash
# A Qwen3-MoE config that transformers 5 saves loses its number of experts in transformers 4, without a word.
#
# transformers 5.23.0 and 4.57.3, seen 2026-11-28 on Python 3.11. Public configs say `num_experts`. transformers 5 reads
# that, saves it as `num_local_experts`, and leaves `num_experts` out. transformers 4 knows `num_experts` alone and takes
# its default, 128. A mixture of 64 experts that is saved again, after fine-tuning or pruning, is then built with 128.
#
# Output seen:
#   5.23.0 saves num_experts=64 as {'num_experts_per_tok': 8, 'num_local_experts': 64}
#   5.23.0 reads 64 experts
#   4.57.3 reads 128 experts
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for pinned in transformers==5.23.0 transformers==4.57.3; do
  version=${pinned#*==}
  python3 -m venv "$work/$version"
  "$work/$version/bin/pip" install -q --disable-pip-version-check "$pinned"
done
cd "$work"
"$work/5.23.0/bin/python" -W ignore - <<'P'
import json

import transformers
from transformers import Qwen3MoeConfig

Qwen3MoeConfig(num_experts=64).save_pretrained("saved")
content = json.load(open("saved/config.json"))
found = {name: content[name] for name in sorted(content) if "experts" in name}
print(f"{transformers.__version__} saves num_experts=64 as {found}")
assert found == {"num_experts_per_tok": 8, "num_local_experts": 64}, "the names have changed"
P
for version in 5.23.0 4.57.3; do
  "$work/$version/bin/python" -W ignore - <<'P'
import transformers
from transformers import AutoConfig

count = AutoConfig.from_pretrained("saved").num_experts
print(f"{transformers.__version__} reads {count} experts")
assert count == (64 if transformers.__version__.startswith("5.") else 128), "what is read has changed"
P
done

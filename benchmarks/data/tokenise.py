"""What packing costs beside the bare tokenizer, whether memory stays bounded, and how fast a second start is.

    python -m benchmarks.data.tokenise [--megabytes 100]

Text is the embedded corpus, over and over, as JSON lines. Times are the best of three for the small file: the
tokenizer's own batch call on texts in memory, calling the tokenizer as transformers does, `datasets.map` with as many
processes as there are CPUs, and regrow from the file to blocks on the disk. The large file is read in a process of its
own, whose peak of memory is set beside that of one that reads a tenth of it (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

CHILD = """
import re, sys, threading, time
from transformers import AutoTokenizer
from regrow.data import read_blocks
from regrow.ladder import ASSETS

def held():  # memory of the process's own, without what maps files: the system takes that back when it needs it
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1])

tokenizer = AutoTokenizer.from_pretrained(str(ASSETS / "tokenizer"))
peak = before = held()
done = threading.Event()

def look():
    global peak
    while not done.wait(0.02):
        peak = max(peak, held())

watcher = threading.Thread(target=look)
watcher.start()
start = time.perf_counter()
blocks = read_blocks(sys.argv[1], tokenizer, sequence_length=256)
took = time.perf_counter() - start
done.set()
watcher.join()
print(took, blocks.n_tokens, before, peak)
"""


def best(work: Callable[[], int], times: int = 3) -> tuple[float, float, int]:
    """Fewest seconds, fewest seconds of CPU in this process, and the tokens it gave."""
    took, cpu, tokens = float("inf"), float("inf"), 0
    for _ in range(times):
        start, used = time.perf_counter(), time.process_time()
        tokens = work()
        took, cpu = min(took, time.perf_counter() - start), min(cpu, time.process_time() - used)
    return took, cpu, tokens


def write(path: Path, texts: list[str], size: int) -> None:
    written = 0
    with path.open("w") as stream:
        while written < size:
            for number, text in enumerate(texts):
                # copies that differ, so that nothing is known twice
                written += stream.write(json.dumps({"text": f"{written} {number} {text}"}) + "\n")
                if written >= size:
                    return


def child(path: Path) -> list[float]:
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True)
    return [float(part) for part in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--without-datasets", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REGROW_CACHE"] = f"{folder}/cache"
        run(Path(folder), args.megabytes * 10**6, with_datasets=not args.without_datasets)


def run(folder: Path, size: int, *, with_datasets: bool) -> None:
    import pandas as pd
    from transformers import AutoTokenizer

    from regrow.data import read_blocks, read_documents
    from regrow.ladder import ASSETS, find_corpus

    tokenizer = AutoTokenizer.from_pretrained(str(ASSETS / "tokenizer"))
    corpus = pd.read_parquet(find_corpus("ladder", "post_train"))["text"].tolist()
    small, large = folder / "small.jsonl", folder / "large.jsonl"
    write(small, corpus, size // 10)
    write(large, corpus, size)
    texts = read_documents(small)
    backend = tokenizer.backend_tokenizer

    def bare() -> int:
        return sum(len(found.ids) for found in backend.encode_batch_fast(texts, add_special_tokens=False))

    def call() -> int:
        return sum(map(len, tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]))

    def packed() -> int:
        return read_blocks(str(small), tokenizer, sequence_length=256, cache=False).n_tokens

    bare_time, bare_cpu, tokens = best(bare)
    print(f"{len(texts)} documents, {tokens:,} tokens, {len(os.sched_getaffinity(0))} CPUs")
    rows = [("the tokenizer alone (batch call)", bare_time, bare_cpu), ("through transformers", *best(call)[:2])]
    if with_datasets:
        rows.append(("datasets.map, a process per CPU", best(lambda: mapped(small), times=1)[0], float("nan")))
    rows.append(("regrow, from file to blocks", *best(packed)[:2]))
    for name, took, cpu in rows:
        print(
            f"{name:34} {took:7.2f} s {tokens / took:12,.0f} tokens/s {cpu:7.2f} s of CPU; of the bare tokenizer's "
            f"speed {bare_time / took:.2f}, by CPU {bare_cpu / cpu:.2f}"
        )
    for path in (small, large):
        took, n, before, peak = child(path)
        print(
            f"{path.stat().st_size / 1e6:6.0f} MB: {took:6.1f} s, {n / took:,.0f} tokens/s, at most "
            f"{(peak - before) / 1e6:.0f} MB more than before reading"
        )
    took, n, *_ = child(large)
    print(f"second start, {n:,.0f} tokens: {1000 * took:.1f} ms")


def mapped(path: Path) -> int:
    """The tokens that `datasets.map` gives, in as many processes as there are CPUs."""
    from datasets import load_dataset

    rows = load_dataset("json", data_files=str(path), split="train", cache_dir=str(path.parent / "datasets"))
    done = rows.map(_map_batch, batched=True, num_proc=len(os.sched_getaffinity(0)), remove_columns=rows.column_names)
    return sum(done["n"])


def _map_batch(batch: dict[str, list[str]]) -> dict[str, list[object]]:
    from transformers import AutoTokenizer

    from regrow.ladder import ASSETS

    global _TOKENIZER
    if _TOKENIZER is None:
        _TOKENIZER = AutoTokenizer.from_pretrained(str(ASSETS / "tokenizer"))
    ids = _TOKENIZER(batch["text"], add_special_tokens=False, verbose=False)["input_ids"]
    return {"input_ids": ids, "n": [len(one) for one in ids]}


_TOKENIZER = None

if __name__ == "__main__":
    main()

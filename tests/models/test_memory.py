"""What a process keeps of the memory that it frees."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, torch
from regrow.models.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(2**24)  # 64 MiB, of pages of 4 KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
assert keep_freed_memory()
faults()
print(first, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc")
def test_a_buffer_that_was_freed_is_not_asked_of_the_system_again():
    done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
    before, after = map(int, done.stdout.split())
    assert after < 1000 < before / 10

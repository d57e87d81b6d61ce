"""Peak memory and time of ingest and classify on a run of many particles, each step in a process of its own.

python benchmarks/bench_memory.py --particles 100000
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIMULATE = """
import sys
from pathlib import Path
from plankter.synthetic import simulate_flowcam_run
simulate_flowcam_run(Path(sys.argv[1]), name="big", particles=int(sys.argv[2]), seed=1)
"""
# a child of its own, so that the peak of one step does not hide that of the next
MEASURE = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "plankter.cli", *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def step(name: str, particles: int, *arguments: str) -> None:
    started = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", MEASURE, *arguments], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    print(
        f"{name:<10}{particles / seconds:9.0f} particles/s ({seconds:.1f} s)   peak {int(out.stdout):6} MB", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--particles", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-c", SIMULATE, scratch, str(args.particles)], check=True)
        workspace = str(Path(scratch) / "w")
        step("init", args.particles, "init", workspace)
        step("ingest", args.particles, "ingest", str(Path(scratch) / "big"), "-w", workspace)
        step("classify", args.particles, "classify", "-w", workspace)
        step("export", args.particles, "export", "csv", "-w", workspace)


if __name__ == "__main__":
    main()

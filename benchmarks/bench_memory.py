"""Peak memory and time of ingest and classify on a run of many particles, each step in a process of its own.

The memory of worker processes is counted with that of the command that started them.

python benchmarks/bench_memory.py --particles 100000
"""

from __future__ import annotations

import argparse
import contextlib
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


def children_of(process_id: int) -> list[int]:
    """A process and all that it started, and so on; Linux only."""
    found = [process_id]
    for task in Path(f"/proc/{process_id}/task").glob("*/children"):
        for child in task.read_text().split():
            found += children_of(int(child))
    return found


def step(name: str, particles: int, *arguments: str) -> None:
    """Runs one command in a process of its own; the peaks of all its processes are added up, at once or not."""
    started = time.perf_counter()
    peak_kb: dict[int, int] = {}
    with subprocess.Popen([sys.executable, "-m", "plankter.cli", *arguments], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError):  # ended meanwhile
                for one in children_of(process.pid):
                    for line in Path(f"/proc/{one}/status").read_text().splitlines():
                        if line.startswith("VmHWM:"):
                            peak_kb[one] = int(line.split()[1])
            time.sleep(0.02)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{name} failed")
    peak, processes = sum(peak_kb.values()) / 1024, len(peak_kb)
    print(
        f"{name:<10}{particles / seconds:9.0f} particles/s ({seconds:.1f} s)   peak {peak:6.0f} MB in {processes} processes",
        flush=True,
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

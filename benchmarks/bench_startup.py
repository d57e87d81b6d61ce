"""Start-up: ``import plankter`` and ``plankter --help`` beside a bare interpreter, best of ten.

python benchmarks/bench_startup.py
"""

from __future__ import annotations

import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import plankter": ["-c", "import plankter"],
    "plankter --help": ["-m", "plankter.cli", "--help"],
}


def best(arguments: list[str], repeat: int = 10) -> float:
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    bare = best(COMMANDS["python -c pass"])
    for name, arguments in COMMANDS.items():
        seconds = best(arguments)
        print(f"{name:<18}{seconds:7.3f} s   {seconds / bare:5.1f} times a bare interpreter")


if __name__ == "__main__":
    main()

"""How long a user waits for `import manyscale` and `manyscale --help`: medians of whole processes."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 7


def seconds(command: list[str]) -> float:
    """Wall time of a command, median of several runs after one that warms the disk."""
    times = []
    for _ in range(RUNS + 1):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def main() -> None:
    """Print both, beside a bare start of Python and the import of torch."""
    program = str(Path(sys.executable).with_name("manyscale"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import manyscale (at most 0.3 s)": [sys.executable, "-c", "import manyscale"],
        "manyscale --help (at most 0.6 s)": [program, "--help"],
        "import torch": [sys.executable, "-c", "import torch"],
    }
    for name, command in commands.items():
        print(f"{name:36} {seconds(command):6.3f} s")


if __name__ == "__main__":
    main()

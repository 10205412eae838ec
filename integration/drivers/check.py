"""What the Python tests share: a count of what held, and the arguments."""

import sys

URL = sys.argv[1]
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
count = 0


def check(got, want, what):
    """Counts a check that holds; ends the program at one that does not."""
    global count
    if got != want:
        sys.exit(f"{what}: got {got!r}, want {want!r}")
    count += 1


def done():
    print(f"{count} checks passed")

# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every lint has in common: which files there are, and how a verdict is told.

Each is called as NAME [ROOT [BUILD]], prints "PASS NAME what" or "FAIL NAME what: why", and fails when one
line does. ROOT is the source tree, BUILD a folder that meson has set up.
"""
import os
import sys
from typing import Iterator, NoReturn

NOT_OURS = {".git", "__pycache__", "node_modules", "fixtures", "corpus"}


class Lint:
    """One lint's run."""

    def __init__(self) -> None:
        here = os.path.dirname(os.path.abspath(sys.argv[0]))
        self.name = os.path.basename(sys.argv[0])
        self.root = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else here + "/../..")
        self.build = os.path.abspath(sys.argv[2] if len(sys.argv) > 2 else self.root + "/build")
        self.failed = 0

    def files(self, *folders: str) -> Iterator[str]:
        """Paths below the folders, relative to the root; generated and recorded files are left out."""
        for folder in folders:
            for path, folders_below, names in os.walk(os.path.join(self.root, folder)):
                folders_below[:] = sorted(d for d in folders_below
                                          if d not in NOT_OURS and not d.startswith("build"))
                for name in sorted(names):
                    full = os.path.join(path, name)
                    if os.path.isfile(full) and not os.path.islink(full):
                        yield os.path.relpath(full, self.root)

    def c_files(self, *folders: str) -> Iterator[str]:
        return (path for path in self.files(*folders) if path.endswith((".c", ".h")))

    def text(self, path: str) -> str:
        with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as file:
            return file.read()

    def interpreter(self, path: str) -> str:
        """The name of the script's interpreter, "sh", or "" for what is no script."""
        first = self.text(path).split("\n", 1)[0]
        if not first.startswith("#!"):
            return ""
        words = first[2:].split()
        word = words[-1] if words and words[0].endswith("/env") else words[0] if words else ""
        return os.path.basename(word)

    def check(self, what: str, problems: list[str]) -> None:
        """One verdict: a line for each problem, or one that says that there is none."""
        for problem in problems:
            print(f"FAIL {self.name} {what}: {problem}")
        if not problems:
            print(f"PASS {self.name} {what}")
        self.failed += len(problems)

    def end(self) -> NoReturn:
        sys.exit(1 if self.failed else 0)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the suites one after the other and adds up; called by `run`, which says how it is used."""

import argparse
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parent
SOURCE = TESTS.parent
CACHE = pathlib.Path(os.environ.get("VMCRYPT_CACHE") or "/var/cache/vmcrypt-tests")
MESON = "/usr/bin/meson"
# debugoptimized is what is installed; the sanitizers' build is only for tests
BUILDS = {
    "plain": [],
    "sanitized": ["-Db_sanitize=address,undefined", "-Db_lundef=false"],
}
# The address sanitizer turns mlock() into nothing, so what must prove that memory is locked runs plain.
NEEDS_PLAIN = {"secret"}
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:strict_string_checks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}
NINJA_LINE = re.compile(r"\[\d+/\d+\] |ninja: ")
LAST_LINE = re.compile(r"(\d+) passed, (\d+) failed, (\d+) skipped")
BUILD_TAIL_LINES = 60


class Count:
    """How many tests passed, failed and were skipped."""

    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def ran(self):
        return self.passed + self.failed > 0

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


# -- processes

_child = None


def lines_of(command, **kw):
    """Run; each line as it comes. The exit status is lines_of.status."""
    global _child
    with subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, text=True, errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw) as _child:
        for line in _child.stdout:
            yield line.rstrip("\n")
    lines_of.status, _child = _child.returncode, None


def stop(number, _):
    """The suite that runs cleans up behind itself; then we go."""
    if _child:
        _child.terminate()
        _child.wait()
    sys.exit(128 + number)


def need(*groups):
    if subprocess.run([TESTS / "need", *groups]).returncode:
        sys.exit(1)


# -- suites of meson

def build_directory(kind):
    """A configured build directory of this checkout."""
    key = hashlib.sha256(str(SOURCE).encode()).hexdigest()[:12]
    folder = CACHE / "build-tests" / f"{key}-{kind}"
    if not (folder / "build.ninja").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        print(f"configuring the {kind} build in {folder}", flush=True)
        lines = list(lines_of([MESON, "setup", *BUILDS[kind], folder, SOURCE]))
        if lines_of.status:
            print("\n".join(lines))
            shutil.rmtree(folder, ignore_errors=True)
            sys.exit("meson setup failed")
    return folder


def names_in(folder, suite):
    """Tests of a suite."""
    text = subprocess.run([MESON, "introspect", "--tests", folder], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, check=True).stdout
    return [test["name"] for test in json.loads(text)
            if any(name.split(":")[-1] == suite for name in test["suite"])]


def run_meson(kind, suite, choose=lambda name: True):
    folder = build_directory(kind)
    with open(folder / "tests.lock", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # another run of the same checkout
        # an older build may not know of new tests yet
        built = list(lines_of(["/usr/bin/ninja", "-C", folder, "build.ninja"]))
        if lines_of.status:
            print("\n".join(built[-BUILD_TAIL_LINES:]))
            return Count(failed=1)
        names = [name for name in names_in(folder, suite) if choose(name)]
        if not names:
            return Count()
        base = f"tests-{suite}"
        log = folder / "meson-logs" / f"{base}.json"
        log.unlink(missing_ok=True)
        environment = dict(os.environ, **(SANITIZERS if kind == "sanitized" else {}))
        print(f"-- {suite}, {kind} build", flush=True)
        built = []
        for line in lines_of([MESON, "test", "-C", folder, "--suite", suite, "--logbase", base,
                              "--print-errorlogs", *names], env=environment):
            if log.exists() and not NINJA_LINE.match(line):
                print(line, flush=True)
            else:
                built.append(line)
        if not log.exists():
            print("\n".join(built[-BUILD_TAIL_LINES:]))
            print(f"{suite} does not build")
            return Count(failed=1)
        total = Count()
        for text in log.read_text().splitlines():
            total.add(count_program(json.loads(text)))
        if lines_of.status and not total.failed:
            total.failed = 1
        return total


def count_program(program):
    """What one test program says: its cases when it is one of cmocka's, else itself."""
    output = program.get("stdout", "") + "\n" + program.get("stderr", "")
    result = program["result"]
    if result == "SKIP":
        print(f"SKIP {program['name']}: {reason_in(output)}")
        return Count(skipped=1)
    numbers = {word: int(number) for word, number
               in re.findall(r"\[ *(PASSED|FAILED|SKIPPED) *\] (\d+) test", output)}
    total = Count(numbers.get("PASSED", 0), numbers.get("FAILED", 0), numbers.get("SKIPPED", 0))
    if not total.ran() and not total.skipped:
        total = Count(passed=1) if result in ("OK", "EXPECTEDFAIL") else Count(failed=1)
    elif result not in ("OK", "EXPECTEDFAIL") and not total.failed:
        total.failed = 1  # all cases passed, and then it crashed or leaked
    for name, said in re.findall(r"\[ *RUN *\] (\w+)\n((?:(?!\[ ).*\n)*)\[ *SKIPPED *\] \1", output):
        print(f"SKIP {program['name']}, {name}: {reason_in(said)}")
    return total


def reason_in(output):
    """What a program has said besides cmocka's own lines."""
    lines = [line.strip() for line in output.splitlines()
             if line.strip() and not re.match(r"\[[ =A-Z-]+\]|\d+ FAILED TEST", line.strip())]
    return "; ".join(lines[-3:]) or "it does not say why"


def unit():
    total = run_meson("sanitized", "unit", lambda name: name not in NEEDS_PLAIN)
    total.add(run_meson("plain", "unit", lambda name: name in NEEDS_PLAIN))
    return total


# -- suites with runners of their own

def run_runner(path, *arguments):
    print(f"-- {path.relative_to(SOURCE)}", flush=True)
    last = ""
    for line in lines_of([path, *arguments]):
        print(line, flush=True)
        last = line if line.strip() else last
    numbers = LAST_LINE.fullmatch(last.strip())
    if not numbers:
        print(f"{path.relative_to(SOURCE)} ended with {lines_of.status} and without a count")
        return Count(failed=1)
    total = Count(*map(int, numbers.groups()))
    if lines_of.status and not total.failed:
        total.failed = 1
    return total


def cloud():
    total = run_runner(TESTS / "cloud/run")
    folder = build_directory("plain")
    built = list(lines_of(["/usr/bin/ninja", "-C", folder, "agent/program/vmcrypt-keyfetch", "tests/cloud/keyclient",
                           "tests/cloud/memlock.so"]))
    if lines_of.status:
        print("\n".join(built[-BUILD_TAIL_LINES:]))
        total.failed += 1
        return total
    total.add(run_runner(TESTS / "cloud/keyfetch-test.py", folder))
    total.add(run_runner(TESTS / "cloud/keyfetch-listen-test.py", folder))
    return total


ONLY_BY_NAME = {"os", "qemu"}


def scenarios(pattern):
    """Names of all scenarios like this."""
    return {path.stem for path in (TESTS / "vm/scenarios").glob(f"{pattern}.py")}


def long_scenarios():
    """Those that take too long for every run, most of them of the OS disk."""
    return sorted(name for name in scenarios("*") - scenarios("os-qemu-*")
                  if "\nONLY_BY_NAME = True\n" in (TESTS / "vm/scenarios" / f"{name}.py").read_text())


# its test is skipped where it is not there
PLYMOUTH = ["plymouth"] if os.environ.get("CI") == "true" else []

# name -> (packages, function, sentence)
SUITES = {
    "unit": (["build", "unit", *PLYMOUTH], unit, "each module alone, with the address and undefined behaviour sanitizers"),
    "lint": (["build", "lint"], lambda: run_meson("plain", "lint"), "the rules of the source itself"),
    "fuzz": (["build"], lambda: run_meson("sanitized", "fuzz"), "parsers, with all inputs ever found"),
    "disk": (["build", "disk"], lambda: run_meson("plain", "disk"), "conversions of volumes in files"),
    "cloud": (["build", "cloud", "clients"], cloud,
              "the emulated vault against the vendor's own clients, and our key service against it"),
    "vm": (["build", "cloud", "vm", "qemu"], lambda: run_runner(TESTS / "vm/run"),
           "whole machines: encryption, reboots, power cuts, outages"),
    "os": (["build", "cloud", "vm"], lambda: run_runner(TESTS / "vm/run", *long_scenarios()),
           "the long ones of them, nearly all of the OS disk; an hour and more, so only when named"),
    "qemu": (["build", "cloud", "vm", "qemu"],
             lambda: run_runner(TESTS / "vm/run", "-j1", *sorted(scenarios("os-qemu-*"))),
             "the same behind real firmware and GRUB, with Debian's own kernel; slow, so only when named"),
}


def main():
    parser = argparse.ArgumentParser(prog="tests/run", description="Try the whole product, or some suites.")
    parser.add_argument("--list", action="store_true", help="name the suites")
    parser.add_argument("suites", nargs="*", metavar="SUITE")
    options = parser.parse_args()
    if options.list:
        for name, (_, _, sentence) in SUITES.items():
            print(f"{name:8} {sentence}")
        return 0
    unknown = [name for name in options.suites if name not in SUITES]
    if unknown:
        sys.exit(f"no such suite: {' '.join(unknown)} (there are: {' '.join(SUITES)})")

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    total, lines, is_good = Count(), [], True
    names = list(dict.fromkeys(options.suites)) or \
        [name for name in SUITES if name not in ONLY_BY_NAME]
    need(*dict.fromkeys(group for name in names for group in SUITES[name][0]))
    for name in names:
        count = SUITES[name][1]()
        if not count.ran():
            print(f"{name}: nothing ran")
            is_good = False
        total.add(count)
        lines.append(f"{name:8} {count}")
    print("-- all\n" + "\n".join(lines))
    print(total, flush=True)
    return 0 if is_good and not total.failed and total.ran() else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A worker that touches no disk: does what the file "mode" in the working directory says."""
import json
import os
import signal
import socket
import sys
import time

job = sys.argv[1]
run = f"/run/vmcrypt/jobs/{job}"
state = f"/var/lib/vmcrypt/jobs/{job}"


def report(directory, **members):
    whole = {"job": job, "kind": "encrypt", "state": "running", "prepared": False, "faults": [],
             "volumes": []}
    whole.update(members)
    with open(f"{directory}/report.json.new", "w", encoding="utf-8") as file:
        json.dump(whole, file)
    os.rename(f"{directory}/report.json.new", f"{directory}/report.json")


def stop(*_):
    report(run, state="waiting")
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
with open("mode", encoding="utf-8") as mode_file:
    mode = mode_file.read().strip()
with open("runs", "a", encoding="utf-8") as runs:
    runs.write(f"{job} {mode}\n")
assert os.path.exists(f"{state}/request.json")
report(run)
if mode == "die":
    sys.exit(1)
if mode == "recovery":
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{run}/recovery.sock")
    listener.listen(1)
    report(run, recovery_socket=f"{run}/recovery.sock")
    listener.settimeout(10)
    person, _ = listener.accept()
    person.sendall(b"abcd-efgh")
    person.close()
    os.unlink(f"{run}/recovery.sock")
if mode == "boot":
    report(run, state="waiting", prepared=True, restart=True)
    sys.exit(0)
time.sleep(0.4)
report(run, prepared=True, volumes=[{
    "uuid": "aaaa-bbbb", "step": "encrypt", "state": "running", "size_bytes": 1000,
    "done_bytes": 500, "rate_bytes": 100, "left_s": 5}])
while mode == "hang":
    time.sleep(1)
time.sleep(1.5)
if mode == "fail":
    report(state, state="failed", faults=[{
        "level": "error", "code": "volume-busy", "volume": "aaaa-bbbb", "step": "preflight",
        "what": "It is busy.", "remedy": "Make it idle."}])
else:
    report(state, state="done", prepared=True)

"""The measuring part of scripts/bench, which prepares what it needs: see there."""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKLOADS = {"first": "busybox", "steps": "busybox", "files": "busybox", "compile": "build"}


def run(command, env=None, retries=3):
    """Runs a command: seconds, peak resident kilobytes of its largest process, its output, the boot time at its start."""
    log = Path(options.work) / "log"
    with open(log, "wb") as out:
        boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        begin = time.monotonic()
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
    text = log.read_text(errors="replace")
    process.returncode = os.waitstatus_to_exitcode(status)
    # buildah copies itself to a memory file for each command, and sealing that fails now and then: not what is measured.
    if process.returncode != 0 and "sealing memfd copy" in text and retries > 0:
        return run(command, env, retries - 1)
    if process.returncode != 0:
        sys.exit(f"{command[0]} failed ({process.returncode}):\n{text[-4000:]}")
    return seconds, usage.ru_maxrss, text, boot


class Dockless:
    name = "dockless"

    def __init__(self, work):
        self.env = {"PATH": os.environ["PATH"], "DOCKLESS_HOME": str(work / "dockless")}

    def build(self, context, *flags):
        return run([os.environ["DOCKLESS"], "build", "--progress=plain", "-t", "bench", *flags, context], self.env)


class Buildah:
    name = "buildah"

    def __init__(self, work):
        self.store = ["--root", work / "buildah", "--runroot", work / "buildah-run"]

    def build(self, context, *flags):
        flags = ["--tls-verify=false", "--isolation", "chroot", "--layers", *flags]
        return run(["buildah", *self.store, "bud", *flags, "-t", "bench", context])


def generate(name, context):
    bases = [f"{options.registry}/library/{base}" for base in ("busybox", "build")]
    subprocess.run([ROOT / "testdata/bench/generate", name, context, *bases], check=True)


def bare(name, context, work):
    """The RUN commands in a chroot of the base, without any builder; none for a workload that is all builder."""
    script = context / "commands.sh"
    if not script.exists():
        return 0.0
    tree = work / "bare"
    bundle = work / f"bundle-{WORKLOADS[name]}"
    if not bundle.exists():
        image = f"{options.bases}/{WORKLOADS[name]}:latest"
        subprocess.run(["umoci", "unpack", "--image", image, bundle], check=True, stdout=subprocess.DEVNULL)
    seconds = []
    for _ in range(options.runs):
        subprocess.run(["cp", "-a", "--reflink=auto", bundle / "rootfs", tree], check=True)
        if (context / "src").exists():
            shutil.copytree(context / "src", tree / "src")
        shutil.copy(script, tree / "commands.sh")
        # What /bin/sh and the compiler need; a plain copy of the device, for nothing may be mounted.
        if not (tree / "dev/urandom").exists():
            os.mknod(tree / "dev/urandom", 0o666 | 0o020000, os.makedev(1, 9))
        seconds.append(run(["chroot", tree, "/bin/sh", "/commands.sh"])[0])
        shutil.rmtree(tree)
    return statistics.median(seconds)


def measure(tool, name, context):
    """Medians for each case: {case: (seconds, kilobytes)}; for `first`, the milliseconds from start to the first RUN."""
    tool.build(context)  # brings the bases into the tool's store
    cases = {"cold": ["--no-cache"]} if name == "first" else {"cold": ["--no-cache"], "unchanged": [], "last COPY": []}
    results, starts = {}, []
    for case, flags in cases.items():
        samples = []
        for number in range(options.runs):
            if case == "last COPY":
                (context / "note").write_text(f"changed {tool.name} {number} {time.time_ns()}\n")
            seconds, memory, text, boot = run_case(tool, context, flags)
            samples.append((seconds, memory))
            if found := re.search(r"up=([0-9]+\.[0-9]+)", text):
                starts.append((float(found[1]) - boot) * 1000)
        results[case] = tuple(statistics.median(column) for column in zip(*samples))
    return results, statistics.median(starts) if starts else None


def run_case(tool, context, flags):
    os.sync()  # what an earlier case left to write is not this one's cost
    return tool.build(context, *flags)


def main():
    work = Path(options.work)
    tools = {"dockless": Dockless, "buildah": Buildah}
    tools = [tools[name](work) for name in options.tools.split(",")]
    print(f"{os.cpu_count()} processors; medians of {options.runs} runs; bases in the store; peak memory of the largest process")
    print(f"{'workload':9} {'case':10} {'tool':9} {'seconds':>9} {'peak MB':>8}  ratio of time to buildah, the bare commands subtracted")
    for name in options.workloads or WORKLOADS:
        context = work / name
        generate(name, context)
        floor = bare(name, context, work)
        if floor:
            print(f"{name:9} {'bare':10} {'chroot':9} {floor:9.3f}")
        measured = {tool.name: measure(tool, name, context) for tool in tools}
        for case in next(iter(measured.values()))[0]:
            below = floor if case == "cold" else 0.0
            for tool, (results, _) in measured.items():
                seconds, memory = results[case]
                ratio = ""
                if tool == "dockless" and "buildah" in measured:
                    peer = measured["buildah"][0][case][0] - below
                    ratio = f"  {max(seconds - below, 0.0) / peer:.3f}x" if peer > 0 else "  (the peer is as fast as the bare commands)"
                print(f"{name:9} {case:10} {tool:9} {seconds:9.3f} {memory / 1000:8.1f}{ratio}", flush=True)
        for tool, (_, start) in measured.items():
            if start is not None:
                print(f"{name:9} {'start':10} {tool:9} {start:6.0f} ms from process start to the first RUN (grain 10 ms)")


parser = argparse.ArgumentParser(prog="scripts/bench")
parser.add_argument("--work", required=True)
parser.add_argument("--registry", required=True)
parser.add_argument("--bases", required=True)
parser.add_argument("-n", "--runs", type=int, default=3)
parser.add_argument("--tools", default="dockless,buildah")
parser.add_argument("workloads", nargs="*", choices=[[], *WORKLOADS], metavar="WORKLOAD")
options = parser.parse_args()
if __name__ == "__main__":
    main()

"""The cache's part of scripts/bench: builds of which nothing changed, pushed to a registry on loopback, against
`buildah bud --layers`; a context of 20,000 files; stages that do not need one another.

Round trips to the registry on loopback are part of every pushed time. buildah's own are, too: it builds and then pushes.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(command, env=None):
    begin = time.monotonic()
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    seconds = time.monotonic() - begin
    if done.returncode != 0:
        sys.exit(f"{command} failed ({done.returncode}):\n{done.stdout.decode(errors='replace')[-4000:]}")
    return seconds


class Dockless:
    name = "dockless"

    def __init__(self, work):
        self.state = work / "dockless"
        self.env = {"PATH": os.environ["PATH"], "DOCKLESS_HOME": str(self.state)}

    def build(self, context, *flags):
        return run([os.environ["DOCKLESS"], "build", "--progress=plain", "-t", "bench", *flags, context], self.env)

    def pushed(self, context, to):
        return run([os.environ["DOCKLESS"], "build", "--progress=plain", "--push", "-t", to, context], self.env)


class Buildah:
    name = "buildah"

    def __init__(self, work):
        self.store = ["buildah", "--root", work / "buildah", "--runroot", work / "buildah-run"]

    def build(self, context, *flags):
        return run([*self.store, "bud", "--tls-verify=false", "--isolation", "chroot", "--layers", "-t", "bench", *flags, context])

    def pushed(self, context, to):
        return self.build(context) + run([*self.store, "push", "--tls-verify=false", "bench", f"docker://{to}"])


def workload(context, instructions):
    """A context whose Dockerfile has so many instructions after FROM."""
    base = f"{options.registry}/library/busybox"
    if instructions == 60:
        subprocess.run([ROOT / "testdata/bench/generate", "steps", context, base, base], check=True)
        return
    context.mkdir(parents=True)
    (context / "note").write_text("a note\n")
    (context / "Dockerfile").write_text(f"FROM {base}\nRUN echo 1 > /one\nCOPY note /note\nENV A=b\n")


def median(samples):
    return statistics.median(samples)


def unchanged(tools, work):
    print(f"{'workload':16} {'tool':9} {'built':>8} {'pushed':>8}   medians of {options.runs}, nothing changed, store kept")
    for instructions in (3, 60):
        context, times = work / f"steps-{instructions}", {}
        workload(context, instructions)
        for tool in tools:
            to = f"{options.registry}/bench/{tool.name}-{instructions}:1"
            tool.pushed(context, to)
            built = median([tool.build(context) for _ in range(options.runs)])
            pushed = median([tool.pushed(context, to) for _ in range(options.runs)])
            times[tool.name] = pushed
            ratio = f"   {times['dockless'] / times['buildah']:.3f}x buildah" if len(times) == 2 else ""
            print(f"{instructions:3} instructions {tool.name:9} {built:8.3f} {pushed:8.3f}{ratio}", flush=True)


def context_of_files(tools, work):
    context = work / "files"
    for number in range(20_000):
        place = context / f"d{number % 20}/e{number % 400}"
        if number < 400:
            place.mkdir(parents=True)
        (place / f"file-{number}.js").write_text(f"module.exports = {number};\n" * 20)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /files\n")
    empty = work / "empty"
    empty.mkdir()
    (empty / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /files\n")
    time.sleep(4)  # what changed just now is read again
    print("20,000 files, copied, nothing changed: seconds, less those of a build of one file")
    for tool in tools:
        tool.build(context)
        tool.build(empty)
        floor = median([tool.build(empty) for _ in range(options.runs)])
        warm = median([tool.build(context) for _ in range(options.runs)]) - floor
        text = f"warm {warm:.3f}"
        if tool.name == "dockless":
            cold = []
            for _ in range(options.runs):
                shutil.rmtree(tool.state / "records/context-stats")
                cold.append(tool.build(context))
            text += f", files read anew {median(cold) - floor:.3f}"
        print(f"  {tool.name:9} {text}", flush=True)


def stages(tools, work):
    """Four stages of a second each, and the one that needs them all."""
    context = work / "stages"
    context.mkdir()
    base = f"{options.registry}/library/busybox"
    text = "".join(f"FROM {base} AS s{n}\nRUN sleep 1; echo {n} > /{n}\n" for n in range(4))
    text += f"FROM {base}\n" + "".join(f"COPY --from=s{n} /{n} /{n}\n" for n in range(4))
    (context / "Dockerfile").write_text(text)
    print("four stages of a second each, and one that copies from all: seconds without a cache")
    for tool in tools:
        flags = ["--jobs", "4"] if tool.name == "buildah" else []
        tool.build(context, *flags)
        print(f"  {tool.name:9} {median([tool.build(context, '--no-cache', *flags) for _ in range(options.runs)]):.3f}", flush=True)


parser = argparse.ArgumentParser(prog="scripts/bench cache")
parser.add_argument("--work", required=True)
parser.add_argument("--registry", required=True)
parser.add_argument("-n", "--runs", type=int, default=5)
parser.add_argument("--tools", default="dockless,buildah")
options = parser.parse_args()
if __name__ == "__main__":
    place = Path(options.work)
    chosen = [{"dockless": Dockless, "buildah": Buildah}[name](place) for name in options.tools.split(",")]
    unchanged(chosen, place)
    context_of_files(chosen, place)
    stages(chosen, place)

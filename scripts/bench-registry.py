"""The registry's part of scripts/bench: push, pull and retag of an image of five layers, against skopeo, on loopback.

Every sample has a registry with empty storage of its own, so that nothing is there already and nothing can be mounted that
should travel. Layers are random bytes: neither side compresses anything.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

LAYERS = 5


def run(command, env=None):
    """Runs a command: seconds, processor seconds."""
    begin = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command} failed ({process.returncode}):\n{output.decode(errors='replace')[-4000:]}")
    return seconds, usage.ru_utime + usage.ru_stime


class Registry:
    """Debian's docker-registry with empty storage; `with` ends it and removes what it holds."""

    def __init__(self, work):
        self.root = Path(work) / "bench-registry"

    def __enter__(self):
        self.root.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.host = "127.0.0.1:%d" % probe.getsockname()[1]
        config = self.root / "config.yml"
        config.write_text(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {self.root}/data}}}}\nhttp: {{addr: '{self.host}'}}\n")
        self.log = open(self.root / "log", "wb")
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=self.log, stderr=self.log)
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/").close()
                return self
            except OSError:
                time.sleep(0.05)
        sys.exit("docker-registry does not answer")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.root)


class Dockless:
    name = "dockless"

    def __init__(self, work, image):
        self.work, self.image, self.binary = work, image, os.environ["DOCKLESS"]

    def env(self, home):
        return {"PATH": os.environ["PATH"], "DOCKLESS_HOME": str(home)}

    def prepare(self, to):
        run([self.binary, "tag", "bench/image:1", to], self.env(self.image))

    def push(self, to):
        return run([self.binary, "push", "-q", to], self.env(self.image))

    def pull(self, source, into):
        return run([self.binary, "pull", "-q", "--all-layers", source], self.env(into))

    def retag(self, source, to):
        return run([self.binary, "copy", "-q", source, to], self.env(self.work / "none"))


class Skopeo:
    name = "skopeo"

    def __init__(self, work, image):
        self.layout = f"oci:{image}:docker.io/bench/image:1"

    def prepare(self, to):
        pass

    def push(self, to):
        return run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", self.layout, f"docker://{to}"])

    def pull(self, source, into):
        return run(["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{source}", f"oci:{into}:x"])

    def retag(self, source, to):
        flags = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        return run(["skopeo", "copy", "--quiet", *flags, f"docker://{source}", f"docker://{to}"])


def build(work, megabytes):
    """The image, in a store of dockless's, which is an OCI layout too."""
    context, image = work / "context", work / "image"
    context.mkdir()
    lines = ["FROM scratch"]
    for number in range(LAYERS):
        with open(context / f"file{number}", "wb") as out:
            for _ in range(megabytes // LAYERS):
                out.write(os.urandom(1 << 20))
        lines.append(f"COPY file{number} /")
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    run([os.environ["DOCKLESS"], "build", "-t", "bench/image:1", context], {"PATH": os.environ["PATH"], "DOCKLESS_HOME": str(image)})
    shutil.rmtree(context)
    return image


def main():
    work = Path(options.work) / "registry-bench"
    work.mkdir()
    image = build(work, options.megabytes)
    tools = [Dockless(work, image), Skopeo(work, image)]
    samples = {}
    for number in range(options.runs):
        # Interleaved, each first in its turn: what slows the machine down hits both.
        for tool in tools if number % 2 == 0 else tools[::-1]:
            with Registry(work) as registry:
                into, to = work / f"into-{tool.name}", f"{registry.host}/bench/image:1"
                tool.prepare(to)
                os.sync()
                results = {"push": tool.push(to)}
                if tool.name == "dockless":
                    results["unchanged"] = tool.push(to)
                os.sync()
                results["pull"] = tool.pull(to, into)
                results["retag"] = tool.retag(to, f"{registry.host}/other/image:2")
                shutil.rmtree(into)
            for case, sample in results.items():
                samples.setdefault((case, tool.name), []).append(sample)
    print(f"{os.cpu_count()} processors; medians of {options.runs} runs; {LAYERS} layers, {options.megabytes} MB, loopback")
    print(f"{'case':10} {'tool':9} {'seconds':>9} {'cpu':>8}  ratio of time to skopeo")
    medians = {key: tuple(statistics.median(column) for column in zip(*rows)) for key, rows in samples.items()}
    for (case, name), (seconds, cpu) in medians.items():
        peer = medians.get((case, "skopeo"))
        ratio = f"  {seconds / peer[0]:.3f}x" if name == "dockless" and peer else ""
        print(f"{case:10} {name:9} {seconds:9.3f} {cpu:8.3f}{ratio}")
    shutil.rmtree(work)


parser = argparse.ArgumentParser(prog="scripts/bench registry")
parser.add_argument("--work", required=True)
parser.add_argument("-n", "--runs", type=int, default=3)
parser.add_argument("--megabytes", type=int, default=500)
options = parser.parse_args()
if __name__ == "__main__":
    main()

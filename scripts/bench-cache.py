"""The cache's part of scripts/bench: builds of which nothing changed, pushed to a registry on loopback, against
`buildah bud --layers`; a context of 20,000 files; stages that do not need one another; and the job of a machine that has
nothing, after a change in the last COPY on top of a base of 320 MB.

Round trips to the registry on loopback are part of every pushed time. buildah's own are, too: it builds and then pushes.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
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

    def pushed(self, context, to, *flags):
        return run([os.environ["DOCKLESS"], "build", "--progress=plain", "--push", "-t", to, *flags, context], self.env)

    # The cache in the registry, and the image itself, which needs no flag when it is built.
    caches = {"registry cache": ("--cache-from=type=registry,ref={0}", "--cache-to=type=registry,ref={0}"), "image": ("--cache-from={1}",)}

    def forget(self):
        shutil.rmtree(self.state)


class Buildah:
    name = "buildah"

    def __init__(self, work):
        self.state = work / "buildah"
        self.store = ["buildah", "--root", self.state, "--runroot", work / "buildah-run"]

    def build(self, context, *flags):
        return run([*self.store, "bud", "--tls-verify=false", "--isolation", "chroot", "--layers", "-t", "bench", *flags, context])

    def pushed(self, context, to, *flags):
        return self.build(context, *flags) + run([*self.store, "push", "--tls-verify=false", "bench", f"docker://{to}"])

    caches = {"registry cache": ("--cache-from={0}", "--cache-to={0}")}

    def forget(self):
        # Unmounts what is mounted there.
        run([*self.store, "rmi", "--all", "--force"])
        shutil.rmtree(self.state)


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


def layer(directory, name, files):
    """A layer in `directory/blobs`: its descriptor and the digest of its tar."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, (content, mode) in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.mtime = len(content), mode, 1600000000
            archive.addfile(entry, io.BytesIO(content))
    packed = gzip.compress(plain.getvalue(), 1, mtime=0)
    return blob(directory, packed, "application/vnd.oci.image.layer.v1.tar+gzip"), hashlib.sha256(plain.getvalue()).hexdigest()


def blob(directory, content, media_type):
    digest = hashlib.sha256(content).hexdigest()
    (directory / "blobs/sha256" / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def python_image(work):
    """An image as large as Docker Hub's python:3, with as many files, in seven layers; pushed. Its bytes come back."""
    directory, dice = work / "python", random.Random(3)
    (directory / "blobs/sha256").mkdir(parents=True)
    busybox = {"bin/busybox": (Path("/bin/busybox").read_bytes(), 0o755), "bin/sh": (Path("/bin/busybox").read_bytes(), 0o755)}
    layers = [layer(directory, "shell", busybox)]
    for number in range(6):
        files = {f"usr/lib/part-{number}/{at // 100}/module-{at}.py": (dice.randbytes(16_000), 0o644) for at in range(3300)}
        layers.append(layer(directory, f"part-{number}", files))
    config = {"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/usr/bin:/bin"]}}
    config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{digest}" for _, digest in layers]}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}
    manifest["config"] = blob(directory, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
    manifest["layers"] = [descriptor for descriptor, _ in layers]
    index = blob(directory, json.dumps(manifest).encode(), manifest["mediaType"])
    index["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    to = f"docker://{options.registry}/library/python:3"
    run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{directory}:latest", to])
    shutil.rmtree(directory)
    return sum(descriptor["size"] for descriptor, _ in layers)


def base_bytes(since):
    """Bytes of the base's blobs that the registry has sent since this place in its log, configs left out."""
    with open(options.registry_log, errors="replace") as log:
        log.seek(since)
        sent = re.findall(r'"GET /v2/library/python/blobs/\S+ HTTP/1.1" 200 (\d+)', log.read())
    return sum(int(size) for size in sent if int(size) > 10_000)


def last_copy(tools, work):
    size = python_image(work)
    context = work / "changed"
    context.mkdir()
    text = f"FROM {options.registry}/library/python:3\nENV A=b\nWORKDIR /app\nCOPY requirements.txt .\n"
    text += "RUN /bin/busybox mkdir -p /usr/lib/site && /bin/busybox cp requirements.txt /usr/lib/site/installed\n"
    (context / "Dockerfile").write_text(text + "COPY main.py ./\nCMD [\"main.py\"]\n")
    (context / "requirements.txt").write_text("flask\n")
    print(f"{size >> 20} MB Python image: empty store, all hits from the registry cache, last COPY changed, pushed: seconds, bytes of the base")
    medians = {}
    for tool in tools:
        for name, flags in tool.caches.items():
            to = f"{options.registry}/bench/{tool.name}-{name.split()[-1]}"
            flags = [flag.format(f"{to}/cache", f"{to}:1") for flag in flags]
            times, sent = [], []
            for number in range(options.runs + 1):
                (context / "main.py").write_text(f"print({number})\n")
                since = os.path.getsize(options.registry_log)
                times.append(tool.pushed(context, f"{to}:1", *flags))
                sent.append(base_bytes(since))
                tool.forget()
            # The first fills the cache.
            medians[tool.name, name] = median(times[1:])
            beside = medians.get(("dockless", "registry cache"))
            ratio = f"   dockless takes {beside / median(times[1:]):.3f}x" if tool.name != "dockless" and beside else ""
            print(f"  {tool.name:9} {name:15} {median(times[1:]):7.3f} {max(sent[1:]):12}{ratio}", flush=True)


parser = argparse.ArgumentParser(prog="scripts/bench cache")
parser.add_argument("--work", required=True)
parser.add_argument("--registry", required=True)
parser.add_argument("--registry-log", required=True)
parser.add_argument("--only", choices=["unchanged", "files", "stages", "last-copy"])
parser.add_argument("-n", "--runs", type=int, default=5)
parser.add_argument("--tools", default="dockless,buildah")
options = parser.parse_args()
if __name__ == "__main__":
    place = Path(options.work)
    chosen = [{"dockless": Dockless, "buildah": Buildah}[name](place) for name in options.tools.split(",")]
    parts = {"unchanged": unchanged, "files": context_of_files, "stages": stages, "last-copy": last_copy}
    for name, part in parts.items():
        if options.only in (None, name):
            part(chosen, place)

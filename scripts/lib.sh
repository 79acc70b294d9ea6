# Shared by the scripts: sourced, not run.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\n== %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "this needs root: $*"
  fi
}

# Installs the Debian packages that are missing; asks apt for nothing when there are none.
need_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "installing ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" >&2
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start_registry DIR: Debian's docker-registry on a free loopback port; sets registry (host:port) and registry_pid.
start_registry() {
  local dir=$1 try
  mkdir -p "$dir"
  registry=127.0.0.1:$(free_port)
  cat > "$dir/config.yml" <<CONFIG
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: $dir/data}}
http: {addr: "$registry"}
CONFIG
  docker-registry serve "$dir/config.yml" >"$dir/log" 2>&1 &
  registry_pid=$!
  for try in $(seq 100); do
    curl -fsS "http://$registry/v2/" >/dev/null 2>&1 && return
    kill -0 "$registry_pid" 2>/dev/null || { cat "$dir/log" >&2; die "docker-registry ended"; }
    sleep 0.1
  done
  die "docker-registry does not answer on $registry"
}

stop_registry() {
  [ -n "${registry_pid:-}" ] || return 0
  kill "$registry_pid" 2>/dev/null || true
  wait "$registry_pid" 2>/dev/null || true
  registry_pid=
}

# push_base LAYOUT NAME: copies the layout's "latest" into the registry as library/NAME.
push_base() {
  skopeo copy --quiet --dest-tls-verify=false "oci:$1:latest" "docker://$registry/library/$2:latest"
}

# make_bases DIR NAME...: real base images from Debian packages; only root can make those that are missing.
make_bases() {
  local dir=$1 missing=() name
  shift
  for name in "$@"; do [ -e "$dir/$name" ] || missing+=("$name"); done
  [ ${#missing[@]} -eq 0 ] || as_root "$root/scripts/make-bases" "$dir" "${missing[@]}" >&2
}

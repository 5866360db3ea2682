#!/usr/bin/env bash
# The image of deploy/Containerfile, built and used without a container engine's daemon and without an image registry.
#     image.sh FOLDER [EXTRA]      (build/container, edge) about 8 minutes and 6 GB; needs root, buildah, mmdebstrap, curl
# The base image is not pulled: a Debian 12 root with its own Python 3.11 and pip takes its name. Debian packages and wheels
# come through this machine's apt and pip. Then the image is used: as its own user `fedagg doctor`, a wrong configuration's exit
# code, a cloud that becomes ready and ends on SIGTERM with 0.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mkdir -p "$1" && cd "$1" && pwd)
extra=${2:-edge}
name=docker.io/library/python:3.11-slim-bookworm
grep -q "^FROM $name\$" deploy/Containerfile # what stands in for it has to be what it names
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
buildah() { command buildah --root "$work/store" --runroot "$work/run" "$@"; }

if ! buildah inspect --type image "$name" >/dev/null 2>&1; then
  mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-dev,python3-pip \
    --customize-hook='ln -s python3 "$1/usr/bin/python" && rm -f "$1/usr/lib/python3.11/EXTERNALLY-MANAGED"' bookworm "$work/base.tar"
  base=$(buildah from scratch)
  buildah add -q "$base" "$work/base.tar" /
  buildah commit -q --rm "$base" "$name"
  rm "$work/base.tar"
fi

machine=() # what pip and TLS need here to reach the packages; a local index `X/simple` has its files beside it
paths=$(python3 -m pip config list | tr " ='" '\n' | sed 's,^file://,,; s,/simple/*$,,' | grep ^/ | sort -u)
for path in /etc/pip.conf /etc/ssl/certs $paths; do
  [ ! -e "$path" ] || [[ $path == /etc/ssl/certs/* ]] || machine+=(-v "$path:$path:ro")
done
rm -rf "$work/src" && mkdir "$work/src"
git archive HEAD | tar x -C "$work/src" # what is committed, not what lies about
buildah bud --pull-never --network host "${machine[@]}" --build-arg EXTRA="$extra" -f "$work/src/deploy/Containerfile" -t fedagg "$work/src"
box=$(buildah from --pull-never fedagg)
trap 'buildah rm "$box" >/dev/null' EXIT
inside() { buildah run --network host -v "$work/etc:/etc/fedagg:ro" -v "$work/state:/var/lib/fedagg" "$box" -- "$@"; }

rm -rf "$work/etc" "$work/state" && mkdir "$work/etc" "$work/state"
user=$(inside id -un) && echo "user: $user" && test "$user" = fedagg
inside fedagg doctor
code=0 && inside fedagg "$extra" --config /nowhere.toml || code=$?
test "$code" = 64

.venv/bin/fedagg pki init "$work/etc/pki" --federation fed
.venv/bin/fedagg pki server "$work/etc/pki" "$work/state/identity" --node cloud --role cloud --host localhost
rm -r "$work/etc/pki"
.venv/bin/python - "$work/etc" <<'PYTHON' # an autoencoder of some noise: it is served, nobody trains on it
import pathlib, sys
import numpy as np
from fedagg_edge.autoencoder import artefact, train
made = train.train(np.random.default_rng(0).random((32, 1, 8, 8), dtype=np.float32), trained_on="noise", seed=0, epochs=1)
artefact.save(made, pathlib.Path(sys.argv[1]) / "autoencoder.safetensors")
PYTHON
conf=cloud-$$.toml # a name of its own: the process is found by it
cat > "$work/etc/$conf" <<'TOML'
federation = "fed"
classes = 10
[node]
id = "cloud"
state = "/var/lib/fedagg"
model = "mlp"
[autoencoder]
path = "/etc/fedagg/autoencoder.safetensors"
[listen]
host = "127.0.0.1"
port = 0
admin_port = 39117
[rounds]
target = 1
children = 1
TOML
chown -R "$(inside id -u):$(inside id -g)" "$work/state"
inside fedagg cloud --config "/etc/fedagg/$conf" & # of an image with the extra `edge`: it trains with the same torch
node=$!
for _ in $(seq 120); do
  curl -sf http://127.0.0.1:39117/readyz >/dev/null && break
  kill -0 $node
  sleep 1
done
curl -sf http://127.0.0.1:39117/readyz
curl -sf http://127.0.0.1:39117/metrics | grep -c '^fedagg_'
pkill -TERM -f "^[^ ]*python[^ ]* [^ ]*fedagg cloud --config /etc/fedagg/$conf\$"
wait $node
echo "the image was built, and a cloud in it became ready and stopped cleanly"

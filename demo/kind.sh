#!/usr/bin/env bash
# `make kind`, `make kind-run` and `make kind-down`: Levada on a cluster in this machine's Docker.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
cluster=levada
context=kind-$cluster

need() {
    for tool in "$@"; do
        command -v "$tool" > /dev/null || { echo "error: $tool is missing; docs/howto/images.md says what this needs" >&2; exit 1; }
    done
}

up() {
    need docker kind kubectl helm
    docker info > /dev/null || { echo "error: no Docker engine answers; without one try 'make demo'" >&2; exit 1; }
    kind get clusters | grep -qx $cluster || kind create cluster --config kind-config.yaml --wait 120s
    make images CONTAINER=docker
    kind load docker-image --name $cluster "levada-operator:$version" "levada-flow:$version" "levada-examples:$version"
    # Runs have the example flows in their image.
    helm upgrade --install levada charts/levada --kube-context $context --namespace levada-system --create-namespace \
        --set flowImage.repository=levada-examples --wait --timeout 3m
    kubectl --context $context apply --server-side -f flows/nyc_taxi/deployment.yaml
    kubectl --context $context wait --for=condition=Ready --timeout=60s deployments.levada.dev/nyc-taxi
    echo "Levada is on $context. Start a run: make kind-run"
}

run() {
    need kubectl
    local name
    name=nyc-taxi-$(date -u +%Y%m%d-%H%M%S)
    kubectl --context $context create -f - <<YAML
apiVersion: levada.dev/v1alpha1
kind: FlowRun
metadata: {name: $name}
spec: {deploymentRef: {name: nyc-taxi}, parameters: {date: "2019-01-05"}}
YAML
    kubectl --context $context wait --for=condition=Succeeded --timeout=20m "flowrun/$name"
    kubectl --context $context get flowruns
}

case "${1:-}" in
    up) up ;;
    run) run ;;
    down) need kind && kind delete cluster --name $cluster ;;
    *) echo "usage: $0 up|run|down" >&2; exit 2 ;;
esac

#!/usr/bin/env bash
# NVIDIA's Multi-Process Service (MPS), by which trials that share a GPU compute at the same time instead of in turn:
#   cluster/mps.sh start              start its daemon on this machine, unless it runs
#   cluster/mps.sh stop               end it, once all trials have ended
#   cluster/mps.sh run COMMAND ...    run a command with a daemon of its own, for its processes alone
# Where there is no nvidia-cuda-mps-control, start and stop do nothing, the command runs without, and a line says so.
set -euo pipefail

runs() {
    echo get_server_list | nvidia-cuda-mps-control > /dev/null 2>&1
}

start() {
    mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
    # With CUDA_VISIBLE_DEVICES the daemon would give the GPUs new numbers, and Ray's choice would mean another one.
    env -u CUDA_VISIBLE_DEVICES nvidia-cuda-mps-control -d || echo "MPS has not started; GPUs are shared in turn" >&2
}

stop() {
    echo quit | nvidia-cuda-mps-control > /dev/null 2>&1 || true
}

action=${1:-}
if [[ $# -gt 0 ]]; then shift; fi
case $action in
    start | stop) valid=$(($# == 0)) ;;
    run) valid=$(($# > 0)) ;;
    *) valid=0 ;;
esac
if [[ $valid == 0 ]]; then
    echo "error: expected is: mps.sh start, mps.sh stop, or mps.sh run COMMAND ..." >&2
    exit 2
fi
if ! command -v nvidia-cuda-mps-control > /dev/null; then
    echo "nvidia-cuda-mps-control is not installed: no MPS; trials that share a GPU take turns" >&2
    if [[ $action == run ]]; then exec "$@"; fi
    exit 0
fi
folder=/tmp/nvidia-mps
if [[ $action == run ]]; then folder=$(mktemp -d /tmp/mps.XXXXXX); fi
export CUDA_MPS_PIPE_DIRECTORY=${CUDA_MPS_PIPE_DIRECTORY:-$folder}
export CUDA_MPS_LOG_DIRECTORY=${CUDA_MPS_LOG_DIRECTORY:-$folder/log}
case $action in
    start)
        runs || start
        ;;
    stop)
        stop
        ;;
    run)
        if runs; then exec "$@"; fi # the cluster's own, which is not ended here
        start
        trap 'stop; rm -rf "$folder"' EXIT
        trap : INT TERM HUP # of the command alone, which ends in order; the daemon ends after it
        "$@"
        ;;
esac

#!/usr/bin/env bash
# Submits a study to a running Ray cluster. The arguments are those of study/run.py:
#   export RAY_API_SERVER_ADDRESS=http://HEAD:8265
#   cluster/submit.sh --name first --space proselflc --corpus ravdess --corpus-root /mnt/shared/ravdess \
#       --tracking-uri http://mlflow:5000
# To resume it: cluster/submit.sh --resume --name first
set -euo pipefail
shared=${SHARED:-/mnt/shared}
export RAY_AUTH_MODE=token
# Ray puts the folder in which a job starts first on the workers' path, so it must be the repository.
exec ray job submit --runtime-env "$(dirname "$0")/runtime_env.yaml" -- \
    env --chdir="$shared/ambivalent" .venv/bin/python study/run.py --address auto \
    --storage-path "$shared/results" "$@"

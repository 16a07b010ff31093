#!/usr/bin/env bash
# A study on Slurm, from the repository's root:
#   sbatch cluster/slurm.sh first --space proselflc --corpus ravdess --corpus-root /mnt/shared/ravdess
# The same line again resumes the study after the time limit or a failure.
#SBATCH --job-name=ambivalent
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --exclusive
#SBATCH --time=24:00:00
# --exclusive, because symmetric-run ends with "ray stop", which ends all of the user's Ray on the node.
set -euo pipefail
: "${MLFLOW_TRACKING_URI:?is not set; an MLflow server that all nodes reach, see cluster/mlflow.sh}"
storage=${STORAGE:-$PWD/results}
name=$1
shift
# shellcheck disable=SC1091
source .venv/bin/activate
export RAY_AUTH_MODE=token RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
ray get-auth-token --generate > /dev/null
if [[ -e $storage/studies/$name/study.json ]]; then set -- --resume; fi

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$head:$((20000 + SLURM_JOB_ID % 10000))
srun cluster/mps.sh run ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    python study/run.py --address "$address" --name "$name" --storage-path "$storage" \
    --tracking-uri "$MLFLOW_TRACKING_URI" "$@"

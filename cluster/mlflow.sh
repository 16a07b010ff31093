#!/usr/bin/env bash
# An MLflow server on Postgres for the whole cluster, with users and passwords:
#   pip install 'mlflow[auth]' 'psycopg[binary]'
#   createuser --pwprompt mlflow && createdb --owner mlflow mlflow
#   export MLFLOW_BACKEND_STORE_URI=postgresql+psycopg://mlflow:PASSWORD@localhost/mlflow
#   export MLFLOW_AUTH_ADMIN_PASSWORD=... MLFLOW_FLASK_SERVER_SECRET_KEY=...    # at the first start; always
#   cluster/mlflow.sh mlflow.example.org
# The argument is the name or address by which the nodes reach this machine; requests to any other one get 403.
set -euo pipefail
: "${MLFLOW_BACKEND_STORE_URI:?is not set}" "${MLFLOW_FLASK_SERVER_SECRET_KEY:?is not set}"
name=$1
exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers 2 \
    --artifacts-destination "${ARTIFACTS:-$PWD/mlartifacts}" --allowed-hosts "$name:5000,localhost:5000"

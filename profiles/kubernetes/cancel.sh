#!/bin/sh
# Delete the Kubernetes Jobs of a stopped workflow; their pods get SIGTERM and save their state.
exec kubectl delete --namespace "${NAMESPACE:-default}" --wait=false "$@"

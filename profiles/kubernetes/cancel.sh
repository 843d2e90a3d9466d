#!/bin/sh
# Delete the Kubernetes Jobs of a workflow that was stopped; their pods get SIGTERM and save their state.
exec kubectl delete --namespace "${NAMESPACE:-default}" --wait=false "$@"

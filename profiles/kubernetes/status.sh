#!/bin/sh
# Print the status of a Kubernetes Job for Snakemake: running, success or failed.
told=$(kubectl get --namespace "${NAMESPACE:-default}" "$1" \
  --output 'jsonpath={.status.conditions[?(@.status=="True")].type}' 2>&1) || {
  case $told in
    *NotFound*) echo failed ;; # deleted by a user
    *) echo running ;;         # the server did not answer
  esac
  exit
}
case $told in
  *Complete*) echo success ;;
  *Failed*) echo failed ;;
  *) echo running ;;
esac

#!/bin/sh
# One word for Snakemake: is a Kubernetes Job running, has it ended well, or has it failed?
told=$(kubectl get --namespace "${NAMESPACE:-default}" "$1" \
  --output 'jsonpath={.status.conditions[?(@.status=="True")].type}' 2>&1) || {
  case $told in
    *NotFound*) echo failed ;; # deleted by somebody
    *) echo running ;;         # the server did not answer
  esac
  exit
}
case $told in
  *Complete*) echo success ;;
  *Failed*) echo failed ;;
  *) echo running ;;
esac

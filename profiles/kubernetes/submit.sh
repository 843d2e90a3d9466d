#!/bin/sh
# Create a Kubernetes Job that runs one job of the workflow; print its name.
# usage: submit.sh CORES MEMORY_MB GPUS MINUTES SCRIPT
set -eu
namespace=${NAMESPACE:-default}            # -> set here or as environment variables
claim=${CLAIM:-three-regime}               # -> PersistentVolumeClaim that holds the checkout
mount=${MOUNT:-$PWD}                       # -> mount path in the pods: the volume's path on this machine
image=${IMAGE:-python:3.11}                # -> any image in which the checkout's .venv runs, with sh and setsid
cores=$1 memory=$2 gpus=$3 minutes=$4 script=$5
here=$(cd "$(dirname "$0")" && pwd)

kubectl create --namespace "$namespace" --output name --filename - <<END
apiVersion: batch/v1
kind: Job
metadata:
  generateName: three-regime-
  labels: {app: three-regime}
spec:
  backoffLimit: 0
  ttlSecondsAfterFinished: 86400
  template:
    spec:
      restartPolicy: Never
      activeDeadlineSeconds: $((minutes * 60)) # of the pod, from its start; that of the Job would include the queue
      terminationGracePeriodSeconds: 60
      containers:
        - name: job
          image: "$image"
          command: [sh, "$here/job.sh", "$script"]
          workingDir: "$PWD"
          resources:
            requests: {cpu: "$cores", memory: "${memory}M"}
            limits: {memory: "${memory}M", nvidia.com/gpu: "$gpus"}
          volumeMounts:
            - {name: checkout, mountPath: "$mount"}
            - {name: shared-memory, mountPath: /dev/shm}
      volumes:
        - {name: checkout, persistentVolumeClaim: {claimName: "$claim"}}
        - {name: shared-memory, emptyDir: {medium: Memory}}
END

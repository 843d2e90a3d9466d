#!/bin/sh
# Run the script of a job in a pod; pass SIGTERM on to its processes, and end with its exit code once they have ended.
# usage: job.sh SCRIPT
# The first process of a container receives SIGTERM alone, and a shell would drop it: nothing would save its state.

# A process group of its own, so that all its processes are reached; its shell waits for what it runs.
setsid sh -c 'trap : TERM; . "$1"' sh "$1" &
job=$!
trap 'signalled=yes; kill -s TERM -- "-$job"' TERM

code=143
while
  signalled=
  wait "$job"
  ended=$?
  [ "$ended" = 127 ] || code=$ended # 127: the last signal came as the job ended
  [ -n "$signalled" ]               # a signal ends `wait` early
do :; done
exit "$code"

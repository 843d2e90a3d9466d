#!/bin/sh
# Print the status of a job for Snakemake: running, success or failed. A job that was killed, or whose node was lost,
# leaves no exit code (submit.sh); the batch system then no longer lists it, or reports it as finished.
job=$1
folder=.snakemake/pbs
wait=${CODE_WAIT_S:-120} # -> seconds to wait for a file written by a node to appear here

ls "$folder" > /dev/null 2>&1 # makes a network file system refresh its cache
if [ -s "$folder/$job.code" ]; then
  if [ "$(cat "$folder/$job.code")" = 0 ]; then echo success; else echo failed; fi
  exit
fi

ended=
if told=$(qstat -f "$job" 2>&1); then # -> Grid Engine: qstat -j "$job"
  case $told in *"job_state = "[FC]*) ended=yes ;; esac
else
  case $told in *"Unknown Job"* | *"has finished"* | *"do not exist"*) ended=yes ;; esac # else the query failed
fi
if [ -z "$ended" ]; then
  echo running
  exit
fi

now=$(date +%s)
[ -s "$folder/$job.ended" ] || { mkdir -p "$folder" && echo "$now" > "$folder/$job.ended"; }
if [ $((now - $(cat "$folder/$job.ended"))) -ge "$wait" ]; then echo failed; else echo running; fi

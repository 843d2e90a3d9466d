#!/bin/sh
# One word for Snakemake: is a job running, has it ended well, or has it failed? A job that was killed, or whose node was
# lost, leaves no exit code (submit.sh); the batch system then knows it no more, or calls it finished.
job=$1
folder=.snakemake/pbs
wait=${CODE_WAIT_S:-120} # -> seconds until a file that a node wrote must be seen here

ls "$folder" > /dev/null 2>&1 # so that a network file system looks again
if [ -s "$folder/$job.code" ]; then
  if [ "$(cat "$folder/$job.code")" = 0 ]; then echo success; else echo failed; fi
  exit
fi

ended=
if told=$(qstat -f "$job" 2>&1); then # -> Grid Engine: qstat -j "$job"
  case $told in *"job_state = "[FC]*) ended=yes ;; esac
else
  case $told in *"Unknown Job"* | *"has finished"* | *"do not exist"*) ended=yes ;; esac # else it did not answer
fi
if [ -z "$ended" ]; then
  echo running
  exit
fi

now=$(date +%s)
[ -s "$folder/$job.ended" ] || { mkdir -p "$folder" && echo "$now" > "$folder/$job.ended"; }
if [ $((now - $(cat "$folder/$job.ended"))) -ge "$wait" ]; then echo failed; else echo running; fi

#!/bin/sh
# One word for Snakemake: is a PBS job running, has it ended well, or has it failed? A job that was killed at its time
# limit leaves no marker file, so that the batch system has to be asked. `qstat -x` knows ended jobs too.
job=$1
told=$(qstat -x -f "$job" 2>/dev/null) || told=
state=$(printf '%s\n' "$told" | sed -n 's/^ *job_state = //p')
code=$(printf '%s\n' "$told" | sed -n 's/^ *Exit_status = //p')
case $state in
  F) if [ "$code" = 0 ]; then echo success; else echo failed; fi ;;
  *) echo running ;; # queued, held, running, or the server did not answer
esac

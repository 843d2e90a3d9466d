#!/bin/sh
# Submit one job of the workflow; print its id. The job finally writes its exit code to .snakemake/pbs/ID.code for
# status.sh, because a batch system need not keep finished jobs.
# usage: submit.sh NAME CORES MEMORY_MB GPUS MINUTES SCRIPT
set -eu
name=$(printf '%.15s' "$1") cores=$2 memory=$3 gpus=$4 minutes=$5 script=$6
folder=$PWD/.snakemake/pbs
mkdir -p "$folder"
code=$(mktemp "$folder/XXXXXXXX")

# The time limit sends SIGTERM to every process: the shells wait for the job, which saves its state.
# -> account and queue: add -A ME -q gpu. Grid Engine: qsub -terse -V -S /bin/sh -j y -o .snakemake/ -N "$name" -pe smp ...
id=$(qsub -V -S /bin/sh -j oe -o .snakemake/ -N "$name" \
  -l "select=1:ncpus=$cores:ngpus=$gpus:mem=${memory}mb" -l "walltime=$minutes:00" <<END
trap : TERM
cd "$PWD"
(
trap : TERM
$(cat "$script")
)
code=\$?
echo "\$code" > "$code"
exit "\$code"
END
)
ln -sf "$code" "$folder/$id.code"
rm -f "$folder/$id.ended" # from an earlier job with the same number
echo "$id"

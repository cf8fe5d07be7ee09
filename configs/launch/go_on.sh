#!/usr/bin/env bash
# bash configs/launch/go_on.sh runs/mine torchrun --nproc_per_node gpu finetune/sft.py --data chats.jsonl
# For whatever starts a job again until it succeeds: begins the run in that folder, goes on with one that was begun, and
# does nothing where it is finished. Ends with status 75 where the run was asked to end, has saved, and is not finished.
# It takes the mark of a machine that is gone out of the folder: start no second job on the same run meanwhile.
set -euo pipefail

run=${1:?which folder does the run have?}
shift
if [ -e "$run/finished" ]; then
    echo "$run: is finished"
    exit 0
fi
rm -f "$run/.lock"
settings=(--output_dir "$run")
if [ -e "$run/run.json" ]; then
    settings+=(--resume true)
fi

GRAFT_ENDING=$(mktemp) # the main process says there how the command ended
export GRAFT_ENDING
"$@" "${settings[@]}" &
command=$!
trap 'kill -TERM "$command" 2> /dev/null || true' TERM INT # which bash would keep to itself
status=0
wait "$command" || status=$?
while kill -0 "$command" 2> /dev/null; do # a signal ends `wait`, not the command
    status=0
    wait "$command" || status=$?
done

if [ "$status" != 0 ]; then
    exit "$status"
fi
if grep -q '"stopped": true' "$GRAFT_ENDING"; then
    exit 75
fi
if grep -q '"stopped": false' "$GRAFT_ENDING"; then
    touch "$run/finished"
fi
for _ in $(seq 30); do # on another machine than that of the main process
    [ ! -e "$run/finished" ] || exit 0
    sleep 1
done
exit 75

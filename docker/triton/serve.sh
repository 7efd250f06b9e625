#!/bin/sh
# Runs tritonserver, and ends it when it has stopped being ready, so that the container's restart policy starts another:
# Docker itself only notes that a container is unhealthy. The arguments go to tritonserver.

CHECK_S=3
START_CHECKS=200 # until it is ready for the first time: ten minutes
MISSES=4         # in a row, after that
READY=${READY_URL:-http://127.0.0.1:8000/v2/health/ready}

# A bundle that is served is not removed: the export takes the same lock to do so. A bundle that was copied may have none.
if [ -r /models/.lock ]; then
    exec 9</models/.lock
    flock --shared 9
fi

# What a client has no business with (shared memory, trace, log settings) asks for a key that is made here and told to
# nobody.
restricted="shared-memory,model-repository,trace,logging:admin-key=$(cat /proc/sys/kernel/random/uuid)"
tritonserver "$@" --http-restricted-api="$restricted" --grpc-restricted-protocol="$restricted" &
server=$!

watch() {
    allowed=$START_CHECKS
    misses=0
    while sleep "$CHECK_S"; do
        if curl --fail --silent --output /dev/null --max-time 3 "$READY"; then
            allowed=$MISSES
            misses=0
        else
            misses=$((misses + 1))
        fi
        if [ "$misses" -ge "$allowed" ]; then
            echo "serve.sh: Triton is not ready, $misses checks in a row: ending it" >&2
            kill -KILL "$server"
            return
        fi
    done
}
watch 9<&- &
watcher=$!

# Requests in flight end first: Triton's own --exit-timeout-secs. It is not ready meanwhile, which is as it should be.
trap 'kill "$watcher"; kill -TERM "$server"' TERM INT
while :; do
    wait "$server"
    code=$?
    kill -0 "$server" 2>/dev/null || break # else it was a signal to this shell that ended the wait
done
kill "$watcher" 2>/dev/null
exit "$code"

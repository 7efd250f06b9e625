#!/bin/sh
# Tells nginx which replicas of the gateway are ready. By itself it finds out with clients' requests, and of a frozen
# replica, whose kernel still takes connections, only when their time is over.
#
# Each address of PROXY_UPSTREAM is asked for /readyz again and again. nginx gets those that answered twice in a row, or
# all where none did: then it is the gateways that say why. A change is a reload, which ends no request.
# The image runs this before nginx; it stays behind.

CHECK_S=0.4 # twice of it is less than SHUTDOWN_DELAY_S: a replica that is told to end gets no more requests when it does
WAIT_S=1

name=${PROXY_UPSTREAM%:*}
port=${PROXY_UPSTREAM##*:}
file=$PROXY_RUN/servers.conf
marks="max_fails=1 fail_timeout=1s"

addresses() {
    nslookup "$name" 2>/dev/null | awk '/^Name:/ { found = 1 } found && /^Address/ { print $NF }' | sort -u
}

ready_of() {
    for address in "$@"; do
        (wget -q -t 1 -T "$WAIT_S" -O /dev/null "http://$address:$port/readyz" 2>/dev/null && echo "$address") &
    done
    wait
}

follow() {
    before=
    while sleep "$CHECK_S"; do
        all=$(addresses)
        ready=$(ready_of $all)
        chosen=$(printf '%s\n' $ready $before | sort | uniq -d)
        before=$ready
        chosen=${chosen:-$all}
        servers=$(printf "server %s:$port $marks;\n" $chosen)
        if [ -z "$chosen" ] || [ "$servers" = "$(cat "$file")" ]; then
            continue
        fi
        echo "$servers" >"$file.new"
        mv "$file.new" "$file"
        kill -HUP "$(cat "$PROXY_RUN/nginx.pid")"
        printf '{"event":"replicas","level":"info","logger":"proxy","timestamp":"%s","used":"%s","all":"%s"}\n' \
            "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(echo $chosen)" "$(echo $all)"
    done
}

echo "server $PROXY_UPSTREAM resolve $marks;" >"$file"
follow &

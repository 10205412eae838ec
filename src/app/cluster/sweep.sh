# Clears away a throwaway cluster: waits for the end of its standard input, which comes when the process that holds
# the other end lets go of it or dies, however it dies; then stops the servers below the directory $1 and removes it.
# Runs as the account that owns the servers, so that it can touch nothing else.
trap '' HUP INT TERM
cat >/dev/null
dir=$1

# A process id may have been used again since its server died; a server's working directory is its data directory.
running() {
    [ -f "$1/postmaster.pid" ] || return 1
    read -r pid <"$1/postmaster.pid" || return 1
    [ "$pid" -gt 1 ] || return 1
    if [ -d /proc/self ]; then
        [ "$(readlink "/proc/$pid/cwd")" = "$1" ]
    else
        kill -0 "$pid"
    fi
}

signal_all() {
    for data in "$dir"/*/; do
        running "${data%/}" && kill -s "$1" "$pid"
    done
}

any_running() {
    for data in "$dir"/*/; do
        running "${data%/}" && return 0
    done
    return 1
}

stop_all() {
    signal_all QUIT
    tries=0
    while any_running && [ $tries -lt 200 ]; do
        sleep 0.05
        tries=$((tries + 1))
    done
    signal_all KILL
}

# A server that was being set up may still write for a moment.
for attempt in 1 2 3; do
    stop_all
    rm -rf "$dir" && break
    sleep 1
done

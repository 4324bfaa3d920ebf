# Keeps a room for an engine: a mount and a process namespace inside a network namespace.
#
#   NAME     the network namespace, and the cgroup of its containers
#   DIR      a folder of the host: `holder`, the id of the room's first process, is written there
#
# As long as standard input is open the room stays. At its end the kernel ends every process of the
# room, and its mounts go with the last of them; what has a name outside is removed here. So nothing
# is left of a test that is killed, either.
trap '' INT TERM HUP
nsenter --net="/run/netns/$NAME" unshare --mount --pid --fork sh -ec '
    # In the view of the host: /proc is still its own.
    read -r holder rest </proc/self/stat
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 tmpfs "$DIR/own"
    cd "$DIR/own"
    mkdir cgroup data exec
    # /sys shows the links of the namespace it was mounted in.
    mount --rbind /sys/fs/cgroup cgroup
    mount -t sysfs sysfs /sys
    mount --rbind cgroup /sys/fs/cgroup
    mount -t proc proc /proc
    # Engines write here: keys, configurations, plugins. The host keeps its own.
    for folder in etc opt; do
        [ -d "/$folder" ] || continue
        mkdir "$folder.new" "$folder.work"
        mount -t overlay overlay \
            -o "lowerdir=/$folder,upperdir=$folder.new,workdir=$folder.work" "/$folder"
    done
    mount -t tmpfs -o mode=755 tmpfs /run
    echo "$holder" >"$DIR/holder.new"
    mv "$DIR/holder.new" "$DIR/holder"
    exec 3<&0
    cat <&3 >/dev/null &
    # Collects whatever ends in the room, too.
    wait "$!"
'
status=$?
tries=0
while find /sys/fs/cgroup -depth -type d -path "*/$NAME*" -exec rmdir {} + 2>/dev/null
    [ -n "$(find /sys/fs/cgroup -type d -name "$NAME")" ] && [ "$tries" -lt 100 ]
do
    tries=$((tries + 1))
    sleep 0.05
done
ip netns delete "$NAME" 2>/dev/null
rm -rf --one-file-system "$DIR"
exit "$status"

# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_plimsoll_global_optspecs
    string join \n h/help V/version
end

function __fish_plimsoll_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_plimsoll_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_plimsoll_using_subcommand
    set -l cmd (__fish_plimsoll_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c plimsoll -n "__fish_plimsoll_needs_command" -s h -l help -d 'Print help'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "demo" -d 'See it work: a few small web servers, the balancer in front of them, and load'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "run" -d 'Balance: find backends, listen, and follow every change until told to stop'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "check" -d 'Say whether configuration files are valid, and if not, where and why'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "status" -d 'Show services, listens, backends, routes, sources, and what is put aside'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "drain" -d 'Give a backend nothing new; what it has in flight may end'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "ready" -d 'Give a drained backend traffic again, and one that is out after failures at once'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "weight" -d 'Change a backend\'s share of what is new'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "maintain" -d 'Put a service into maintenance: its clients get 503, and when to come back'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "explain" -d 'Say where a connection or request would go now, and why'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "doctor" -d 'Look for what keeps packets from being forwarded or answered, and say what mends it'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "flows" -d 'List live connections and requests, the oldest first'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "healthcheck" -d 'Ask whether a server is well: exit code 0 if it is, 1 if it is not'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "node" -d 'Make this host or a container serve addresses (VIPs) behind a director'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "docker-proxy" -d 'Serve what a load balancer reads of a Docker Engine on a socket'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "demo-server" -d 'Serve HTTP that tells who answers: something to try a balancer with'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "man" -d 'Write the manual pages into a folder'
complete -c plimsoll -n "__fish_plimsoll_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and not __fish_seen_subcommand_from dr help" -l requests -d 'Send so many requests, print the table, and end' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and not __fish_seen_subcommand_from dr help" -l listen -d 'Where the balancer listens [default: a free port of 127.0.0.1]' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and not __fish_seen_subcommand_from dr help" -l instances -d 'How many servers, 1 to 9' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and not __fish_seen_subcommand_from dr help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and not __fish_seen_subcommand_from dr help" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and not __fish_seen_subcommand_from dr help" -f -a "dr" -d 'See layer 4 in the kernel work: a client, a director that forwards by direct routing, three nodes'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and not __fish_seen_subcommand_from dr help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and __fish_seen_subcommand_from dr" -l requests -d 'Send so many requests, print the table, and end' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and __fish_seen_subcommand_from dr" -l name -d 'What the names of everything that is made begin with; demos of different names run side by side' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and __fish_seen_subcommand_from dr" -l namespaces -d 'In network namespaces, also where Docker runs'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and __fish_seen_subcommand_from dr" -l containers -d 'In containers of the local engine ($DOCKER_HOST, else /var/run/docker.sock), or not at all'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and __fish_seen_subcommand_from dr" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and __fish_seen_subcommand_from dr" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and __fish_seen_subcommand_from help" -f -a "dr" -d 'See layer 4 in the kernel work: a client, a director that forwards by direct routing, three nodes'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand run" -s c -l config -d 'Configuration file [default: /etc/plimsoll/plimsoll.toml, if it is there]' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand run" -l docker -d 'Balance the containers of this engine, unix:///PATH or tcp://HOST:PORT [default without a configuration: $DOCKER_HOST, else /var/run/docker.sock]' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand run" -l listen -d 'Where HTTP services of containers and links listen that do not say it themselves: PORT or ADDR:PORT; `*` is any address [default: *:80]' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand run" -l user -d 'Started as root, become this user, by number or name, once root is not needed any more; the group of the engine\'s socket is kept, and the right to listen on ports below 1024. Started as somebody else, it means nothing' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand run" -l admin -d 'Unix socket of the daemon\'s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand run" -l stats -d 'Unix socket that answers HAProxy\'s commands (show stat, set server, …) to the tools that ask them, such as hatop [default: none]' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand run" -l workers -d 'Worker threads of the proxy plane, 1 to 256 [default: one per core]' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand run" -l log-format -d 'Log lines on standard error for people or as JSON [default: text]' -r -f -a "text\t''
json\t''"
complete -c plimsoll -n "__fish_plimsoll_using_subcommand run" -l log -d 'What is logged: error, warn, info, debug or trace, or by part (info,plimsoll_control=debug)' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand run" -l drain-timeout -d 'How long connections and requests may take to end after SIGTERM [default: 30s]' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand run" -l links -d 'Balance what legacy links of this container say (docker run --link WEB_1:WEB_1), read once from the environment; no engine is needed for it'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand run" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand check" -l json -d 'Print JSON'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand check" -l strict -d 'Exit with 2 for warnings, too'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand check" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand status" -l admin -d 'Unix socket of the daemon\'s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand status" -l json -d 'Print JSON, as the admin API gives it'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand status" -l watch -d 'Show it anew every second, until Ctrl-C'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand status" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand drain" -l timeout -d 'Wait so long at most; then the exit code is 1, and the backend stays drained' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand drain" -l admin -d 'Unix socket of the daemon\'s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand drain" -l wait -d 'Wait until it has nothing in flight'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand drain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand drain" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand ready" -l admin -d 'Unix socket of the daemon\'s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand ready" -s h -l help -d 'Print help'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand ready" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand weight" -l admin -d 'Unix socket of the daemon\'s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand weight" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand weight" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand maintain" -l admin -d 'Unix socket of the daemon\'s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand maintain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand maintain" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand explain" -l host -d 'The host that an HTTP request asks for' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand explain" -l path -d 'The path that an HTTP request asks for' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand explain" -l admin -d 'Unix socket of the daemon\'s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand explain" -l json -d 'Print JSON'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand explain" -s h -l help -d 'Print help'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand explain" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand doctor" -l vip -d 'Look at a node for these addresses; several with commas between them, or again [default: those that `plimsoll node` serves, else those on lo]' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand doctor" -l container -d 'The node is a container: its name or id in the engine, a process id, or the path of a network namespace (with a slash in it)' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand doctor" -l docker -d 'Engine that knows the container, as unix:///PATH [default: $DOCKER_HOST, else /var/run/docker.sock]' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand doctor" -l interface -d 'Interface by which the director\'s packets come to the node; may be given again [default: those of the default routes]' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand doctor" -l state -d 'Folder where `plimsoll node` writes down what it changed' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand doctor" -l config -d 'Configuration file, where no daemon runs [default: /etc/plimsoll/plimsoll.toml if it is there]' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand doctor" -l admin -d 'Unix socket of the daemon\'s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand doctor" -l node -d 'Look at this machine as a node only'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand doctor" -l no-unwrap -d 'The node need not unwrap tunnels'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand doctor" -s v -s a -l all -l verbose -d 'Also show what is right'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand doctor" -l json -d 'Print JSON, of everything that was looked at'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand doctor" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand flows" -l service -d 'Only those of this service' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand flows" -l backend -d 'Only those to this backend' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand flows" -l limit -d 'At most so many' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand flows" -l admin -d 'Unix socket of the daemon\'s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand flows" -l json -d 'Print JSON'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand flows" -s h -l help -d 'Print help'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand flows" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand healthcheck" -l admin -d 'Unix socket of the daemon\'s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand healthcheck" -l timeout -d 'How long to wait for the answer' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand healthcheck" -l ready -d 'Ask for /readyz: whether all that is wanted is in force, too'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand healthcheck" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand healthcheck" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -l vip -d 'Address that clients use, IPv4 or IPv6; several with commas between them, or again' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -l container -d 'Not this host, but a container: its name or id in the engine, a process id, or the path of a network namespace (with a slash in it)' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -l docker -d 'Engine that knows the container, as unix:///PATH [default: $DOCKER_HOST, else /var/run/docker.sock]. Without --vip and --container: all its containers that have a label plimsoll.node.vip=ADDR[,ADDR…], as they start and stop' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -l interface -d 'Interface by which the director\'s packets come; may be given again [default: those of the default routes]' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -l mss -d 'Let servers on the VIPs announce TCP segments of so many bytes at most, 88 to 65495: over links of 1500 bytes 1420 fits any IPv4 tunnel, and 1400 any tunnel' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -l state -d 'Folder where it is written down what was changed' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -l no-unwrap -d 'Do not unwrap tunnels: enough for direct routing, and puts no program into the kernel'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -l once -d 'Leave it as it is then, do not wait'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -l undo -d 'Take back what was done once, or left by a process that was killed: of these addresses, or all'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -l check -d 'Only say what is missing: exit code 1 if something is'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -l print -d 'Only print the commands that do the same'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -l json -d 'Print JSON'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand node" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand docker-proxy" -l listen -d 'Socket to listen on, as PATH or unix://PATH' -r -F
complete -c plimsoll -n "__fish_plimsoll_using_subcommand docker-proxy" -l engine -d 'Socket of the engine, as unix:///PATH [default: $DOCKER_HOST, else /var/run/docker.sock]' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand docker-proxy" -l mode -d 'Mode of the socket, in octal digits' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand docker-proxy" -l group -d 'Group of the socket, by number or as in /etc/group [default: that of this process]' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand docker-proxy" -l log -d 'What is logged: error, warn, info, debug (each request that is refused) or trace' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand docker-proxy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand docker-proxy" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo-server" -l listen -d 'Where to listen; `*` is any address of this host. May be given several times' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo-server" -l name -d 'The name in answers [default: the name of this host]' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo-server" -l linger -d 'How long to go on serving after SIGTERM, with `Connection: close` in every answer' -r
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo-server" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand demo-server" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand completions" -s h -l help -d 'Print help'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand completions" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand man" -s h -l help -d 'Print help'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand man" -s V -l version -d 'Print version'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "demo" -d 'See it work: a few small web servers, the balancer in front of them, and load'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "run" -d 'Balance: find backends, listen, and follow every change until told to stop'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "check" -d 'Say whether configuration files are valid, and if not, where and why'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "status" -d 'Show services, listens, backends, routes, sources, and what is put aside'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "drain" -d 'Give a backend nothing new; what it has in flight may end'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "ready" -d 'Give a drained backend traffic again, and one that is out after failures at once'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "weight" -d 'Change a backend\'s share of what is new'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "maintain" -d 'Put a service into maintenance: its clients get 503, and when to come back'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "explain" -d 'Say where a connection or request would go now, and why'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "doctor" -d 'Look for what keeps packets from being forwarded or answered, and say what mends it'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "flows" -d 'List live connections and requests, the oldest first'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "healthcheck" -d 'Ask whether a server is well: exit code 0 if it is, 1 if it is not'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "node" -d 'Make this host or a container serve addresses (VIPs) behind a director'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "docker-proxy" -d 'Serve what a load balancer reads of a Docker Engine on a socket'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "demo-server" -d 'Serve HTTP that tells who answers: something to try a balancer with'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "completions" -d 'Print completions for a shell'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "man" -d 'Write the manual pages into a folder'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and not __fish_seen_subcommand_from demo run check status drain ready weight maintain explain doctor flows healthcheck node docker-proxy demo-server completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c plimsoll -n "__fish_plimsoll_using_subcommand help; and __fish_seen_subcommand_from demo" -f -a "dr" -d 'See layer 4 in the kernel work: a client, a director that forwards by direct routing, three nodes'

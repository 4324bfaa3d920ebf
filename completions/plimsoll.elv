
use builtin;
use str;

set edit:completion:arg-completer[plimsoll] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'plimsoll'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'plimsoll'= {
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
            cand demo 'See it work: a few small web servers, the balancer in front of them, and load'
            cand run 'Balance: find backends, listen, and follow every change until told to stop'
            cand check 'Say whether configuration files are valid, and if not, where and why'
            cand status 'Show services, listens, backends, routes, sources, and what is put aside'
            cand drain 'Give a backend nothing new; what it has in flight may end'
            cand ready 'Give a drained backend traffic again, and one that is out after failures at once'
            cand weight 'Change a backend''s share of what is new'
            cand maintain 'Put a service into maintenance: its clients get 503, and when to come back'
            cand explain 'Say where a connection or request would go now, and why'
            cand doctor 'Look for what keeps packets from being forwarded or answered, and say what mends it'
            cand flows 'List live connections and requests, the oldest first'
            cand healthcheck 'Ask whether a server is well: exit code 0 if it is, 1 if it is not'
            cand node 'Make this host or a container serve addresses (VIPs) behind a director'
            cand docker-proxy 'Serve what a load balancer reads of a Docker Engine on a socket'
            cand demo-server 'Serve HTTP that tells who answers: something to try a balancer with'
            cand completions 'Print completions for a shell'
            cand man 'Write the manual pages into a folder'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'plimsoll;demo'= {
            cand --requests 'Send so many requests, print the table, and end'
            cand --listen 'Where the balancer listens [default: a free port of 127.0.0.1]'
            cand --instances 'How many servers, 1 to 9'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
            cand dr 'See layer 4 in the kernel work: a client, a director that forwards by direct routing, three nodes'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'plimsoll;demo;dr'= {
            cand --requests 'Send so many requests, print the table, and end'
            cand --name 'What the names of everything that is made begin with; demos of different names run side by side'
            cand --namespaces 'In network namespaces, also where Docker runs'
            cand --containers 'In containers of the local engine ($DOCKER_HOST, else /var/run/docker.sock), or not at all'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;demo;help'= {
            cand dr 'See layer 4 in the kernel work: a client, a director that forwards by direct routing, three nodes'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'plimsoll;demo;help;dr'= {
        }
        &'plimsoll;demo;help;help'= {
        }
        &'plimsoll;run'= {
            cand -c 'Configuration file [default: /etc/plimsoll/plimsoll.toml, if it is there]'
            cand --config 'Configuration file [default: /etc/plimsoll/plimsoll.toml, if it is there]'
            cand --docker 'Balance the containers of this engine, unix:///PATH or tcp://HOST:PORT [default without a configuration: $DOCKER_HOST, else /var/run/docker.sock]'
            cand --listen 'Where HTTP services of containers and links listen that do not say it themselves: PORT or ADDR:PORT; `*` is any address [default: *:80]'
            cand --user 'Started as root, become this user, by number or name, once root is not needed any more; the group of the engine''s socket is kept, and the right to listen on ports below 1024. Started as somebody else, it means nothing'
            cand --admin 'Unix socket of the daemon''s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]'
            cand --stats 'Unix socket that answers HAProxy''s commands (show stat, set server, …) to the tools that ask them, such as hatop [default: none]'
            cand --workers 'Worker threads of the proxy plane, 1 to 256 [default: one per core]'
            cand --log-format 'Log lines on standard error for people or as JSON [default: text]'
            cand --log 'What is logged: error, warn, info, debug or trace, or by part (info,plimsoll_control=debug)'
            cand --drain-timeout 'How long connections and requests may take to end after SIGTERM [default: 30s]'
            cand --links 'Balance what legacy links of this container say (docker run --link WEB_1:WEB_1), read once from the environment; no engine is needed for it'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;check'= {
            cand --json 'Print JSON'
            cand --strict 'Exit with 2 for warnings, too'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;status'= {
            cand --admin 'Unix socket of the daemon''s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]'
            cand --json 'Print JSON, as the admin API gives it'
            cand --watch 'Show it anew every second, until Ctrl-C'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;drain'= {
            cand --timeout 'Wait so long at most; then the exit code is 1, and the backend stays drained'
            cand --admin 'Unix socket of the daemon''s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]'
            cand --wait 'Wait until it has nothing in flight'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;ready'= {
            cand --admin 'Unix socket of the daemon''s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;weight'= {
            cand --admin 'Unix socket of the daemon''s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;maintain'= {
            cand --admin 'Unix socket of the daemon''s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;explain'= {
            cand --host 'The host that an HTTP request asks for'
            cand --path 'The path that an HTTP request asks for'
            cand --admin 'Unix socket of the daemon''s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]'
            cand --json 'Print JSON'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;doctor'= {
            cand --vip 'Look at a node for these addresses; several with commas between them, or again [default: those that `plimsoll node` serves, else those on lo]'
            cand --container 'The node is a container: its name or id in the engine, a process id, or the path of a network namespace (with a slash in it)'
            cand --docker 'Engine that knows the container, as unix:///PATH [default: $DOCKER_HOST, else /var/run/docker.sock]'
            cand --interface 'Interface by which the director''s packets come to the node; may be given again [default: those of the default routes]'
            cand --state 'Folder where `plimsoll node` writes down what it changed'
            cand --config 'Configuration file, where no daemon runs [default: /etc/plimsoll/plimsoll.toml if it is there]'
            cand --admin 'Unix socket of the daemon''s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]'
            cand --node 'Look at this machine as a node only'
            cand --no-unwrap 'The node need not unwrap tunnels'
            cand -v 'Also show what is right'
            cand -a 'Also show what is right'
            cand --all 'Also show what is right'
            cand --verbose 'Also show what is right'
            cand --json 'Print JSON, of everything that was looked at'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;flows'= {
            cand --service 'Only those of this service'
            cand --backend 'Only those to this backend'
            cand --limit 'At most so many'
            cand --admin 'Unix socket of the daemon''s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]'
            cand --json 'Print JSON'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;healthcheck'= {
            cand --admin 'Unix socket of the daemon''s admin API [default: $XDG_RUNTIME_DIR/plimsoll.sock, for root /run/plimsoll.sock, without either /tmp/plimsoll-UID/plimsoll.sock]'
            cand --timeout 'How long to wait for the answer'
            cand --ready 'Ask for /readyz: whether all that is wanted is in force, too'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;node'= {
            cand --vip 'Address that clients use, IPv4 or IPv6; several with commas between them, or again'
            cand --container 'Not this host, but a container: its name or id in the engine, a process id, or the path of a network namespace (with a slash in it)'
            cand --docker 'Engine that knows the container, as unix:///PATH [default: $DOCKER_HOST, else /var/run/docker.sock]. Without --vip and --container: all its containers that have a label plimsoll.node.vip=ADDR[,ADDR…], as they start and stop'
            cand --interface 'Interface by which the director''s packets come; may be given again [default: those of the default routes]'
            cand --mss 'Let servers on the VIPs announce TCP segments of so many bytes at most, 88 to 65495: over links of 1500 bytes 1420 fits any IPv4 tunnel, and 1400 any tunnel'
            cand --state 'Folder where it is written down what was changed'
            cand --no-unwrap 'Do not unwrap tunnels: enough for direct routing, and puts no program into the kernel'
            cand --once 'Leave it as it is then, do not wait'
            cand --undo 'Take back what was done once, or left by a process that was killed: of these addresses, or all'
            cand --check 'Only say what is missing: exit code 1 if something is'
            cand --print 'Only print the commands that do the same'
            cand --json 'Print JSON'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;docker-proxy'= {
            cand --listen 'Socket to listen on, as PATH or unix://PATH'
            cand --engine 'Socket of the engine, as unix:///PATH [default: $DOCKER_HOST, else /var/run/docker.sock]'
            cand --mode 'Mode of the socket, in octal digits'
            cand --group 'Group of the socket, by number or as in /etc/group [default: that of this process]'
            cand --log 'What is logged: error, warn, info, debug (each request that is refused) or trace'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;demo-server'= {
            cand --listen 'Where to listen; `*` is any address of this host. May be given several times'
            cand --name 'The name in answers [default: the name of this host]'
            cand --linger 'How long to go on serving after SIGTERM, with `Connection: close` in every answer'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;completions'= {
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;man'= {
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'plimsoll;help'= {
            cand demo 'See it work: a few small web servers, the balancer in front of them, and load'
            cand run 'Balance: find backends, listen, and follow every change until told to stop'
            cand check 'Say whether configuration files are valid, and if not, where and why'
            cand status 'Show services, listens, backends, routes, sources, and what is put aside'
            cand drain 'Give a backend nothing new; what it has in flight may end'
            cand ready 'Give a drained backend traffic again, and one that is out after failures at once'
            cand weight 'Change a backend''s share of what is new'
            cand maintain 'Put a service into maintenance: its clients get 503, and when to come back'
            cand explain 'Say where a connection or request would go now, and why'
            cand doctor 'Look for what keeps packets from being forwarded or answered, and say what mends it'
            cand flows 'List live connections and requests, the oldest first'
            cand healthcheck 'Ask whether a server is well: exit code 0 if it is, 1 if it is not'
            cand node 'Make this host or a container serve addresses (VIPs) behind a director'
            cand docker-proxy 'Serve what a load balancer reads of a Docker Engine on a socket'
            cand demo-server 'Serve HTTP that tells who answers: something to try a balancer with'
            cand completions 'Print completions for a shell'
            cand man 'Write the manual pages into a folder'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'plimsoll;help;demo'= {
            cand dr 'See layer 4 in the kernel work: a client, a director that forwards by direct routing, three nodes'
        }
        &'plimsoll;help;demo;dr'= {
        }
        &'plimsoll;help;run'= {
        }
        &'plimsoll;help;check'= {
        }
        &'plimsoll;help;status'= {
        }
        &'plimsoll;help;drain'= {
        }
        &'plimsoll;help;ready'= {
        }
        &'plimsoll;help;weight'= {
        }
        &'plimsoll;help;maintain'= {
        }
        &'plimsoll;help;explain'= {
        }
        &'plimsoll;help;doctor'= {
        }
        &'plimsoll;help;flows'= {
        }
        &'plimsoll;help;healthcheck'= {
        }
        &'plimsoll;help;node'= {
        }
        &'plimsoll;help;docker-proxy'= {
        }
        &'plimsoll;help;demo-server'= {
        }
        &'plimsoll;help;completions'= {
        }
        &'plimsoll;help;man'= {
        }
        &'plimsoll;help;help'= {
        }
    ]
    $completions[$command]
}

//! What the proxies are told to do.

use std::path::Path;

use super::Mode;
use super::load::Reuse;

pub(super) fn plimsoll_config(
    mode: Mode,
    port: u16,
    backends: &[u16],
    reuse: Reuse,
    threads: usize,
) -> String {
    let backends: Vec<String> = backends
        .iter()
        .map(|backend| format!("\"127.0.0.1:{backend}\""))
        .collect();
    format!(
        "[daemon]\nworkers = {threads}\n\n[[service]]\nname = \"web\"\nlisten = \"127.0.0.1:{port}/{}\"\n\
         backends = [{}]\nscheduler = \"rr\"\n{}",
        mode.name(),
        backends.join(", "),
        match (mode, reuse) {
            (Mode::Udp, Reuse::Never) => "sessions = { responses = 1 }\n",
            _ => "",
        }
    )
}

pub(super) fn haproxy_config(mode: Mode, port: u16, backends: &[u16], threads: usize) -> String {
    let reuse = match mode {
        Mode::Http => "    http-reuse always\n    option http-keep-alive\n",
        Mode::Tcp | Mode::Udp => "",
    };
    let servers: String = backends
        .iter()
        .enumerate()
        .map(|(index, backend)| format!("    server b{index} 127.0.0.1:{backend}\n"))
        .collect();
    format!(
        "global\n    nbthread {threads}\n    maxconn 8000\n\ndefaults\n    mode {}\n    \
         timeout connect 5s\n    timeout client 10m\n    timeout server 10m\n\n\
         frontend front\n    bind 127.0.0.1:{port}\n    default_backend web\n\n\
         backend web\n    balance roundrobin\n{reuse}{servers}",
        mode.name()
    )
}

pub(super) fn nginx_config(
    mode: Mode,
    port: u16,
    backends: &[u16],
    stream: Option<&Path>,
    reuse: Reuse,
) -> String {
    let servers: String = backends
        .iter()
        .map(|backend| format!("        server 127.0.0.1:{backend};\n"))
        .collect();
    // One process that is both master and worker dies with the bench; a worker of its own would
    // not be told.
    let process = "daemon off;\nmaster_process off;\nworker_processes 1;\npid nginx.pid;\n\
                   error_log stderr warn;\nevents { worker_connections 16000; }\n";
    match mode {
        Mode::Http => format!(
            "{process}http {{\n    access_log off;\n    keepalive_timeout 10m;\n    \
             keepalive_requests 1000000000;\n    client_body_temp_path t1;\n    \
             proxy_temp_path t2;\n    fastcgi_temp_path t3;\n    uwsgi_temp_path t4;\n    \
             scgi_temp_path t5;\n    upstream web {{\n{servers}        keepalive 128;\n        \
             keepalive_requests 1000000000;\n    }}\n    server {{\n        \
             listen 127.0.0.1:{port};\n        location / {{\n            \
             proxy_pass http://web;\n            proxy_http_version 1.1;\n            \
             proxy_set_header Connection \"\";\n        }}\n    }}\n}}\n"
        ),
        Mode::Tcp | Mode::Udp => {
            let udp = if mode == Mode::Udp { " udp" } else { "" };
            let responses = match (mode, reuse) {
                (Mode::Udp, Reuse::Never) => "        proxy_responses 1;\n",
                _ => "",
            };
            let load = stream.map_or_else(String::new, |module| {
                format!("load_module {};\n", module.display())
            });
            format!(
                "{load}{process}stream {{\n    upstream web {{\n{servers}    }}\n    server {{\n        \
                 listen 127.0.0.1:{port}{udp};\n        proxy_pass web;\n{responses}        \
                 proxy_timeout 10m;\n    }}\n}}\n"
            )
        }
    }
}

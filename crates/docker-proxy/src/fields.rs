//! The fields of answers that are passed on: Docker Engine API 1.40 to 1.55.
//!
//! What is not read is not here: command lines, environments, mounts, options, labels of others and
//! the like, which people keep secrets in.

use crate::shape::Shape::{self, Cut, Fields, Labels, Last, List, Map, Plain, Variables};

/// The environment variables that are passed on, all of which say how to balance; others are left
/// out.
pub const ENV: [&str; 7] = [
    "NETWORK_ACCESS",
    "VIRTUAL_DEST",
    "VIRTUAL_HOST",
    "VIRTUAL_HOST_MULTIPORTS",
    "VIRTUAL_PATH",
    "VIRTUAL_PORT",
    "VIRTUAL_PROTO",
];

/// Characters of what a HEALTHCHECK printed that are passed on.
pub const MAX_OUTPUT: usize = 300;

/// Of every error.
pub(crate) const ERROR: Shape = Fields(&[("message", Plain)]);

/// Of `/version`.
pub(crate) const VERSION: Shape = Fields(&[
    ("ApiVersion", Plain),
    ("Arch", Plain),
    ("KernelVersion", Plain),
    ("MinAPIVersion", Plain),
    ("Os", Plain),
    ("Version", Plain),
]);

/// Of `/info`.
pub(crate) const INFO: Shape = Fields(&[
    ("ID", Plain),
    ("Name", Plain),
    ("OSType", Plain),
    ("ServerVersion", Plain),
    (
        "Swarm",
        Fields(&[
            ("Cluster", Fields(&[("ID", Plain)])),
            ("ControlAvailable", Plain),
            ("LocalNodeState", Plain),
            ("NodeAddr", Plain),
            ("NodeID", Plain),
        ]),
    ),
]);

/// A container's end in one network.
const ENDPOINT: Shape = Fields(&[
    ("EndpointID", Plain),
    ("GlobalIPv6Address", Plain),
    ("IPAddress", Plain),
    ("NetworkID", Plain),
]);

/// Of an item of `/containers/json`.
pub(crate) const CONTAINERS: Shape = List(&Fields(&[
    ("Created", Plain),
    (
        "Health",
        Fields(&[("FailingStreak", Plain), ("Status", Plain)]),
    ),
    ("HostConfig", Fields(&[("NetworkMode", Plain)])),
    ("Id", Plain),
    ("Image", Plain),
    ("Labels", Labels),
    ("Names", List(&Plain)),
    ("NetworkSettings", Fields(&[("Networks", Map(&ENDPOINT))])),
    (
        "Ports",
        List(&Fields(&[
            ("IP", Plain),
            ("PrivatePort", Plain),
            ("PublicPort", Plain),
            ("Type", Plain),
        ])),
    ),
    ("State", Plain),
    ("Status", Plain),
]));

/// Of `/containers/{id}/json`.
pub(crate) const CONTAINER: Shape = Fields(&[
    (
        "Config",
        Fields(&[
            ("Env", Variables(&ENV)),
            ("ExposedPorts", Map(&Fields(&[]))),
            ("Hostname", Plain),
            ("Image", Plain),
            ("Labels", Labels),
            ("StopSignal", Plain),
            ("StopTimeout", Plain),
        ]),
    ),
    ("Created", Plain),
    ("HostConfig", Fields(&[("NetworkMode", Plain)])),
    ("Id", Plain),
    ("Name", Plain),
    (
        "NetworkSettings",
        Fields(&[
            ("Networks", Map(&ENDPOINT)),
            (
                "Ports",
                Map(&List(&Fields(&[("HostIp", Plain), ("HostPort", Plain)]))),
            ),
        ]),
    ),
    ("RestartCount", Plain),
    (
        "State",
        Fields(&[
            ("Dead", Plain),
            ("ExitCode", Plain),
            ("FinishedAt", Plain),
            (
                "Health",
                Fields(&[
                    ("FailingStreak", Plain),
                    (
                        "Log",
                        Last(&Fields(&[
                            ("End", Plain),
                            ("ExitCode", Plain),
                            ("Output", Cut(MAX_OUTPUT)),
                            ("Start", Plain),
                        ])),
                    ),
                    ("Status", Plain),
                ]),
            ),
            ("OOMKilled", Plain),
            ("Paused", Plain),
            ("Restarting", Plain),
            ("Running", Plain),
            ("StartedAt", Plain),
            ("Status", Plain),
        ]),
    ),
]);

/// Of `/networks/{id}`.
pub(crate) const NETWORK: Shape = Fields(&[
    ("Attachable", Plain),
    ("Created", Plain),
    ("Driver", Plain),
    ("EnableIPv4", Plain),
    ("EnableIPv6", Plain),
    (
        "IPAM",
        Fields(&[(
            "Config",
            List(&Fields(&[("Gateway", Plain), ("Subnet", Plain)])),
        )]),
    ),
    ("Id", Plain),
    ("Ingress", Plain),
    ("Internal", Plain),
    ("Labels", Labels),
    ("Name", Plain),
    ("Scope", Plain),
]);

/// Of `/networks`.
pub(crate) const NETWORKS: Shape = List(&NETWORK);

const VERSION_INDEX: Shape = Fields(&[("Index", Plain)]);

const PORTS: Shape = List(&Fields(&[
    ("Name", Plain),
    ("Protocol", Plain),
    ("PublishMode", Plain),
    ("PublishedPort", Plain),
    ("TargetPort", Plain),
]));

const CONTAINER_SPEC: Shape = Fields(&[
    ("Env", Variables(&ENV)),
    ("Image", Plain),
    ("Labels", Labels),
    ("StopGracePeriod", Plain),
    ("StopSignal", Plain),
]);

/// Networks that a service wants.
const ATTACHMENTS: Shape = List(&Fields(&[("Aliases", List(&Plain)), ("Target", Plain)]));

const TASK_SPEC: Shape = Fields(&[("ContainerSpec", CONTAINER_SPEC), ("Networks", ATTACHMENTS)]);

/// Of `/services`. `PreviousSpec` says nothing that is in force.
pub(crate) const SERVICES: Shape = List(&Fields(&[
    ("CreatedAt", Plain),
    (
        "Endpoint",
        Fields(&[
            ("Ports", PORTS),
            (
                "VirtualIPs",
                List(&Fields(&[("Addr", Plain), ("NetworkID", Plain)])),
            ),
        ]),
    ),
    ("ID", Plain),
    (
        "ServiceStatus",
        Fields(&[
            ("CompletedTasks", Plain),
            ("DesiredTasks", Plain),
            ("RunningTasks", Plain),
        ]),
    ),
    (
        "Spec",
        Fields(&[
            ("EndpointSpec", Fields(&[("Mode", Plain), ("Ports", PORTS)])),
            ("Labels", Labels),
            (
                "Mode",
                Fields(&[
                    ("Global", Fields(&[])),
                    ("Replicated", Fields(&[("Replicas", Plain)])),
                ]),
            ),
            ("Name", Plain),
            ("Networks", ATTACHMENTS),
            ("TaskTemplate", TASK_SPEC),
        ]),
    ),
    ("UpdateStatus", Fields(&[("State", Plain)])),
    ("UpdatedAt", Plain),
    ("Version", VERSION_INDEX),
]));

/// Of `/tasks`.
pub(crate) const TASKS: Shape = List(&Fields(&[
    ("CreatedAt", Plain),
    ("DesiredState", Plain),
    ("ID", Plain),
    ("Labels", Labels),
    ("Name", Plain),
    (
        "NetworksAttachments",
        List(&Fields(&[
            ("Addresses", List(&Plain)),
            (
                "Network",
                Fields(&[
                    ("ID", Plain),
                    (
                        "Spec",
                        Fields(&[("Ingress", Plain), ("Name", Plain), ("Scope", Plain)]),
                    ),
                ]),
            ),
        ])),
    ),
    ("NodeID", Plain),
    ("ServiceID", Plain),
    ("Slot", Plain),
    ("Spec", TASK_SPEC),
    (
        "Status",
        Fields(&[
            (
                "ContainerStatus",
                Fields(&[("ContainerID", Plain), ("ExitCode", Plain)]),
            ),
            ("PortStatus", Fields(&[("Ports", PORTS)])),
            ("State", Plain),
            ("Timestamp", Plain),
        ]),
    ),
    ("UpdatedAt", Plain),
    ("Version", VERSION_INDEX),
]));

/// Of `/nodes`.
pub(crate) const NODES: Shape = List(&Fields(&[
    (
        "Description",
        Fields(&[
            ("Hostname", Plain),
            (
                "Platform",
                Fields(&[("Architecture", Plain), ("OS", Plain)]),
            ),
        ]),
    ),
    ("ID", Plain),
    (
        "ManagerStatus",
        Fields(&[("Addr", Plain), ("Leader", Plain), ("Reachability", Plain)]),
    ),
    (
        "Spec",
        Fields(&[
            ("Availability", Plain),
            ("Labels", Labels),
            ("Name", Plain),
            ("Role", Plain),
        ]),
    ),
    ("Status", Fields(&[("Addr", Plain), ("State", Plain)])),
    ("Version", VERSION_INDEX),
]));

/// Of a line of `/events`.
pub(crate) const EVENT: Shape = Fields(&[
    ("Action", Plain),
    (
        "Actor",
        // Labels are among the others.
        Fields(&[
            (
                "Attributes",
                Fields(&[("container", Plain), ("signal", Plain)]),
            ),
            ("ID", Plain),
        ]),
    ),
    ("Type", Plain),
    ("scope", Plain),
    ("time", Plain),
    ("timeNano", Plain),
]);

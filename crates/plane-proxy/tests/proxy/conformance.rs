//! What every plane must do.

use plimsoll_plane::conformance;
use plimsoll_plane_proxy::{Options, ProxyPlane};
use plimsoll_testkit::Port;

#[test]
fn the_plane_conforms() {
    let mut ports = Vec::new();
    let mut port = || {
        ports.push(Port::take().unwrap());
        ports.last().unwrap().number()
    };
    let mut make = || {
        Box::new(
            ProxyPlane::start(Options {
                workers: 2,
                ..Options::default()
            })
            .unwrap(),
        ) as _
    };
    conformance::run(conformance::Kind::Proxy, &mut make, &mut port);
}

//! Programs run on packets of ours (`BPF_PROG_TEST_RUN`).

use std::collections::BTreeMap;

use super::bpf::test_run;
use super::{Error, Program, ProgramKind, Result};

/// A program may make a packet so much longer.
const GROWTH: usize = 512;

/// What a program sees beside the packet. By default the packet comes from loopback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TestContext {
    /// `ingress_ifindex`: for XDP an interface of this namespace with a receive queue that is in use.
    pub ingress_ifindex: u32,
    /// TC: `ifindex`, an interface of this namespace.
    pub ifindex: u32,
    /// TC: `mark`.
    pub mark: u32,
    /// TC: `gso_size`, the payload of one segment of a packet that will be cut.
    pub gso_size: u32,
    /// TC: `gso_segs`.
    pub gso_segs: u32,
    /// TC: `cb`.
    pub cb: [u32; 5],
}

impl TestContext {
    /// As the kernel takes it: `struct xdp_md` or `struct __sk_buff`; nothing for the default.
    fn bytes(&self, kind: ProgramKind, packet: usize) -> Vec<u8> {
        if *self == Self::default() {
            return Vec::new();
        }
        let packet = u32::try_from(packet).unwrap_or(u32::MAX);
        let (fields, len): (Vec<(usize, u32)>, usize) = match kind {
            ProgramKind::Xdp => (vec![(4, packet), (12, self.ingress_ifindex)], 24),
            _ => {
                let mut fields = vec![
                    (8, self.mark),
                    (36, self.ingress_ifindex),
                    (40, self.ifindex),
                    (164, self.gso_segs),
                    (176, self.gso_size),
                ];
                fields.extend((48..).step_by(4).zip(self.cb));
                (fields, 192)
            }
        };
        let mut bytes = vec![0; len];
        for (offset, value) in fields {
            if let Some(place) = bytes.get_mut(offset..offset + 4) {
                place.copy_from_slice(&value.to_ne_bytes());
            }
        }
        bytes
    }
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// What the program returned (`XDP_…`, `TC_ACT_…`).
    pub retval: u32,
    /// The packet as the program left it.
    pub data_out: Vec<u8>,
    /// Nanoseconds of one run, in steps of some; the mean of all repetitions.
    pub duration_ns: u32,
}

/// What many single runs gave.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanRun {
    /// Nanoseconds of one run, the timer's own cost included.
    pub mean_ns: f64,
    /// How often the program returned what.
    pub retvals: BTreeMap<u32, u64>,
}

impl Program {
    /// Runs the program `repeat` times (at least once), from the second time on on what the time before
    /// left of the packet.
    ///
    /// # Errors
    /// A packet shorter than an Ethernet header or longer than a page, a context that this kind of
    /// program cannot have, or what the kernel says.
    pub fn test_run(&self, packet: &[u8], repeat: u32, context: &TestContext) -> Result<TestRun> {
        let context = context.bytes(self.kind(), packet.len());
        let mut data_out = vec![0; packet.len() + GROWTH];
        let run = test_run(self.fd(), packet, &context, &mut data_out, repeat.max(1));
        let run = run.map_err(self.failed())?;
        data_out.truncate(run.written);
        Ok(TestRun {
            retval: run.result,
            data_out,
            duration_ns: run.duration,
        })
    }

    /// Runs the program `runs` times, each time on the packet as it is given.
    ///
    /// # Errors
    /// As [`Self::test_run`].
    pub fn mean_run(&self, packet: &[u8], runs: u32, context: &TestContext) -> Result<MeanRun> {
        let context = context.bytes(self.kind(), packet.len());
        let mut sum = 0_u64;
        let mut retvals = BTreeMap::new();
        for _ in 0..runs {
            let run = test_run(self.fd(), packet, &context, &mut [], 1).map_err(self.failed())?;
            sum += u64::from(run.duration);
            *retvals.entry(run.result).or_default() += 1;
        }
        #[allow(
            clippy::cast_precision_loss,
            reason = "nanoseconds of a measurement are far below 2^52"
        )]
        let mean_ns = sum as f64 / f64::from(runs.max(1));
        Ok(MeanRun { mean_ns, retvals })
    }

    fn failed(&self) -> impl Fn(std::io::Error) -> Error {
        let what = format!("running program {} on a packet", self.name());
        move |source| Error::System {
            what: what.clone(),
            source,
        }
    }
}

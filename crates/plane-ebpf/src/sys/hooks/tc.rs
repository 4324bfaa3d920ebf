//! TC ingress and egress: a chain of programs (tcx, since Linux 6.6), then filters.

use super::{Attached, Filter, Mode, Side, clsact};
use crate::sys::bpf::{TcxPlace, attach_tcx, detach_tcx, query_tcx};
use crate::sys::{Error, Netlink, Program, Result};

/// Where a program of ours is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcOptions {
    /// Before programs and filters of others, not after them.
    pub first: bool,
    /// For packets of which way.
    pub side: Side,
    /// As a filter, also where the kernel has chains.
    pub filter: bool,
}

/// Which way a program of ours was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcWay {
    /// In the chain of programs.
    Tcx,
    /// As a filter.
    Filter,
}

/// What is attached to TC ingress of this interface, in the order in which packets meet it: the chain of
/// programs, then filters. Each may end the way of a packet.
///
/// # Errors
/// What the kernel says.
pub fn tc(netlink: &mut Netlink, interface: u32) -> Result<Vec<Attached>> {
    tc_at(netlink, interface, Side::Ingress)
}

/// The same, of packets of either way.
///
/// # Errors
/// What the kernel says.
pub fn tc_at(netlink: &mut Netlink, interface: u32, side: Side) -> Result<Vec<Attached>> {
    let mut all = chain(interface, side)?.unwrap_or_default();
    all.extend(clsact::filters(netlink, interface, side)?);
    Ok(all)
}

/// The chain of programs; none where the kernel has no such thing.
fn chain(interface: u32, side: Side) -> Result<Option<Vec<Attached>>> {
    let entries = query_tcx(interface, side == Side::Egress);
    let entries = entries.map_err(Error::system(format!(
        "listing programs at {side} of interface {interface}"
    )))?;
    Ok(entries.map(|entries| {
        let attached = entries.into_iter().map(|entry| {
            Attached::new(
                Mode::Tcx,
                entry.program,
                (entry.link != 0).then_some(entry.link),
            )
        });
        attached.collect()
    }))
}

/// Attaches a program to TC ingress of this interface, or to its egress.
///
/// One of ours with the same name is replaced where it is, without a packet in between that meets none.
/// Else it comes last: at the end of the chain, or, if others have filters there, as a filter after them.
/// What others have stays untouched.
///
/// # Errors
/// What the kernel says.
pub fn attach_tc(
    netlink: &mut Netlink,
    interface: u32,
    program: &Program,
    options: TcOptions,
) -> Result<TcWay> {
    let side = options.side;
    let chain = chain(interface, side)?;
    let filters = clsact::filters(netlink, interface, side)?;
    let same = |attached: &&Attached| attached.is_ours() && attached.name == program.name();
    let in_chain = chain.as_deref().and_then(|chain| chain.iter().find(same));
    let in_filters = filters.iter().find(same);
    let others = filters.iter().any(|filter| !filter.is_ours());
    let way = if options.filter || chain.is_none() {
        TcWay::Filter
    } else if in_chain.is_some() {
        TcWay::Tcx
    } else if in_filters.is_some() || (others && !options.first) {
        TcWay::Filter
    } else {
        TcWay::Tcx
    };
    match way {
        TcWay::Tcx => {
            into_chain(interface, program, in_chain, options)?;
            if let Some(old) = in_filters {
                remove(netlink, interface, side, old)?;
            }
        }
        TcWay::Filter => {
            let (handle, replace) = match in_filters.map(|old| &old.mode) {
                Some(Mode::Filter(old)) if old.priority == clsact::PRIORITY => (old.handle, true),
                _ => (free_handle(&filters), false),
            };
            clsact::put(netlink, interface, side, program, (handle, replace))?;
            if let Some(old) = in_chain {
                remove(netlink, interface, side, old)?;
            }
        }
    }
    Ok(way)
}

fn into_chain(
    interface: u32,
    program: &Program,
    old: Option<&Attached>,
    options: TcOptions,
) -> Result<()> {
    let TcOptions { first, side, .. } = options;
    if old.is_some_and(|old| old.id == program.id()) {
        return Ok(());
    }
    let old = old.map(|old| Program::from_id(old.id)).transpose()?;
    let place = match &old {
        Some(old) => TcxPlace::InPlaceOf(old.fd()),
        None if first => TcxPlace::First,
        None => TcxPlace::Last,
    };
    let attached = attach_tcx(interface, side == Side::Egress, program.fd(), place);
    attached.map_err(Error::system(format!(
        "attaching program {} to {side} of interface {interface}",
        program.name()
    )))
}

/// Attaches a program to TC ingress of this interface before one of ours that is there, which stays: what the
/// first passes on meets the second. Nothing is done if the program is there already.
///
/// # Errors
/// What the kernel says.
pub fn attach_tc_before(
    netlink: &mut Netlink,
    interface: u32,
    program: &Program,
    old: &Attached,
) -> Result<()> {
    if tc(netlink, interface)?
        .iter()
        .any(|there| there.id == program.id())
    {
        return Ok(());
    }
    if matches!(old.mode, Mode::Filter(_)) {
        // Of filters with one priority the kernel asks the newest first.
        let handle = free_handle(&clsact::filters(netlink, interface, Side::Ingress)?);
        return clsact::put(netlink, interface, Side::Ingress, program, (handle, false));
    }
    let old = Program::from_id(old.id)?;
    let place = TcxPlace::Before(old.fd());
    attach_tcx(interface, false, program.fd(), place).map_err(Error::system(format!(
        "attaching program {} to TC ingress of interface {interface}",
        program.name()
    )))
}

/// Detaches this one from TC ingress of this interface.
///
/// # Errors
/// What the kernel says.
pub fn detach_tc_one(netlink: &mut Netlink, interface: u32, old: &Attached) -> Result<()> {
    remove(netlink, interface, Side::Ingress, old)
}

/// A handle that no filter of our priority has.
fn free_handle(filters: &[Attached]) -> u32 {
    let taken = |handle: u32| {
        filters.iter().any(|attached| {
            matches!(&attached.mode, Mode::Filter(Filter { priority, handle: other, .. })
                if *priority == clsact::PRIORITY && *other == handle)
        })
    };
    (1..u32::MAX).find(|handle| !taken(*handle)).unwrap_or(1)
}

/// Detaches what is ours and has a name that begins so from TC ingress and egress of this interface; false
/// if there was nothing. [`PREFIX`](crate::sys::PREFIX) means all that is ours.
///
/// # Errors
/// What the kernel says.
pub fn detach_tc(netlink: &mut Netlink, interface: u32, name: &str) -> Result<bool> {
    let mut any = false;
    for side in [Side::Ingress, Side::Egress] {
        let attached = tc_at(netlink, interface, side)?;
        let ours = attached.iter().filter(|attached| attached.is_ours());
        for old in ours.filter(|old| old.name.starts_with(name)) {
            remove(netlink, interface, side, old)?;
            any = true;
        }
    }
    Ok(any)
}

fn remove(netlink: &mut Netlink, interface: u32, side: Side, old: &Attached) -> Result<()> {
    if let Mode::Filter(filter) = &old.mode {
        return clsact::delete(netlink, interface, side, filter);
    }
    let program = Program::from_id(old.id)?;
    let detached = detach_tcx(interface, side == Side::Egress, program.fd());
    detached.map_err(Error::system(format!(
        "detaching program {} from {side} of interface {interface}",
        old.name
    )))
}

//! Giving up root.

use std::path::Path;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::error::Error;

/// Becomes this user for good, in these groups besides its own, and keeps the right to listen on
/// ports below 1024 if it is there. Has to be called before any thread is started: the kernel
/// knows users of threads only.
///
/// Who is not root has nothing to give up, and stays who it is: false.
///
/// # Errors
/// The system refuses.
pub(crate) fn give_up(user: u32, group: u32, also: &[u32]) -> Result<bool, Error> {
    if !geteuid().is_root() {
        return Ok(false);
    }
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    let refused = |errno: Errno| {
        Error::Failed(format!(
            "--user: the system does not let root become user {}: {errno}; it takes the \
             capabilities SETUID and SETGID, or leave --user out and start as that user",
            user.as_raw()
        ))
    };
    let drop = || {
        let kept = capabilities(None)?.permitted & CapabilitySet::NET_BIND_SERVICE;
        set_keep_capabilities(true)?;
        let also: Vec<Gid> = also.iter().map(|group| Gid::from_raw(*group)).collect();
        set_thread_groups(&also)?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
        set_capabilities(
            None,
            CapabilitySets {
                effective: kept,
                permitted: kept,
                inheritable: CapabilitySet::empty(),
            },
        )?;
        set_keep_capabilities(false)?;
        set_no_new_privs(true)
    };
    drop().map(|()| true).map_err(refused)
}

/// Who this process is, if that is not `user`.
pub(crate) fn another_than(user: u32) -> Option<u32> {
    let here = geteuid().as_raw();
    (here != user).then_some(here)
}

/// The group that an engine's socket can be opened with: its own, or if it is not there yet the
/// one called `docker`, which packages give it. None if neither is there.
pub(crate) fn group_of(socket: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(socket);
    file.map(|file| file.gid())
        .or_else(|_| crate::users::group("docker"))
        .ok()
}

/// Whether this process may write to a file, or connect to a socket; one that is not there yet is
/// not in the way.
pub(crate) fn may_write(path: &Path) -> bool {
    !matches!(
        access(path, Access::WRITE_OK),
        Err(Errno::ACCESS | Errno::PERM)
    )
}

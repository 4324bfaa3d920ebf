//! `plimsoll node`: silence about VIPs, tunnels of all four kinds, and nothing left behind.

mod relay;
mod serving;
mod silence;
mod site;
mod undoing;

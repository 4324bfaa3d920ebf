//! The packet plane in the topology of the kernel's own test of IPVS (`netfilter/ipvs.sh`): a client on
//! a bridge, a director with two legs, and servers that have a leg at the client, too.

mod errors;
mod floods;
mod leaving;
mod matrix;
mod site;
mod slots;
mod spread;
mod talk;
mod twins;

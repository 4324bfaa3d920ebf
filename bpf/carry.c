// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Takes over a flow of another layout: one for each run, given in the place of a packet. So it is entered by
 * the same hands as those of packets, under the same locks, while packets come.
 * plimsoll-build: other
 */
#define PLIMSOLL_XDP
#include "packet.h"
#include "flows.h"

/* The same in crates/plane-ebpf/src/kernel/carry.rs. */
struct carried {
	__u32 src[4], dst[4];
	__be16 sport, dport;
	__u32 word;
	__u32 slot;
	__u32 seen;
	__u32 other;
	__u32 family;
};

#define CARRIED_NEW 1
#define CARRIED_KNOWN 2      /* it is here already */
#define CARRIED_STALE 3      /* its backend's slot is another's */
#define CARRIED_FULL 4       /* there is no room */

#define FAMILY V4
#define FLOW struct flow4
#define NAME(x) x##4
#include "carry_flow.h"
#undef FAMILY
#undef FLOW
#undef NAME

#define FAMILY V6
#define FLOW struct flow6
#define NAME(x) x##6
#include "carry_flow.h"
#undef FAMILY
#undef FLOW
#undef NAME

SEC("xdp")
int plimsoll_carry(context *ctx)
{
	struct carried *given = DATA(ctx), c;
	struct packet p = {};
	__u32 zero = 0;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);

	if (!cfg || (void *)(given + 1) > DATA_END(ctx))
		return CARRIED_FULL;
	c = *given;
	copy_addr(p.src, c.src, V6);
	copy_addr(p.dst, c.dst, V6);
	p.sport = c.sport;
	p.dport = c.dport;
	p.proto = FLOW_PROTO(c.word);
	return c.family == 4 ? carry4(cfg, &p, &c) : carry6(cfg, &p, &c);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The way to a backend. The kernel's routing table and neighbours are asked about once a second for
 * each backend that has packets, and what they say is kept with the backend.
 */
#pragma once

#include "backends.h"

/* Seconds for which a router is believed that says what fits (RFC 1191 §6.3). */
#define PATH_SECONDS 600

#define AF_INET 2
#define AF_INET6 10

INLINE int fib(context *ctx, const struct backend *b, struct bpf_fib_lookup *way)
{
	way->ifindex = ingress(ctx);
	way->tot_len = 1; /* asks for the MTU */
	if (b->family == V4) {
		way->family = AF_INET;
		way->ipv4_dst = b->addr[0];
		/* The source matters to policy routing only: the director's own. */
		way->ipv4_src = b->outer[0];
	} else {
		way->family = AF_INET6;
		copy_addr(way->ipv6_dst, b->addr, V6);
		copy_addr(way->ipv6_src, b->outer, V6);
	}
	return bpf_fib_lookup(ctx, way, sizeof(*way), 0);
}

/* Whether that is so at a time within `span` after now: times long past may look as if to come. */
INLINE int is_ahead(__u32 time, __u32 now, __u32 span)
{
	return time - now - 1 < span;
}

/* Asks anew; 0 if packets that came where this one did are not to be forwarded at all. */
GLOBAL int look_up_way(context *ctx, const struct backend *b, struct live *live, __u32 now, __u32 hz)
{
	struct bpf_fib_lookup way = {};
	struct nexthop *h;
	__u32 was, ifindex, mtu, next, *link;
	int result;

	if (!b || !live)
		return 1;
	was = live->refresh;
	if (__sync_val_compare_and_swap(&live->refresh, was, now + hz) != was)
		return 1;
	next = live->nexthop & 1 ? 0 : 1;
	result = fib(ctx, b, &way);
	if (result == BPF_FIB_LKUP_RET_FWD_DISABLED) {
		/* It is so of this packet's interface: what came by another one finds out for itself. */
		h = next ? &live->hops[0] : &live->hops[1];
		h->result = result;
		live->refresh = now;
		return 0;
	}
	h = next ? &live->hops[1] : &live->hops[0];
	h->result = result;
	h->flags = 0;
	h->ifindex = way.ifindex;
	mtu = way.mtu_result;
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH) {
		/* Then the lookup says no MTU: the interface's. */
		mtu = 0;
		bpf_check_mtu(ctx, way.ifindex, &mtu, 0, 0);
	}
	if (live->path_mtu && !is_ahead(live->path_until, now, PATH_SECONDS * hz))
		live->path_mtu = 0;
	if (live->path_mtu && live->path_mtu < mtu)
		mtu = live->path_mtu;
	h->mtu = mtu < 0xffff ? mtu : 0xffff;
	if (result == BPF_FIB_LKUP_RET_SUCCESS || result == BPF_FIB_LKUP_RET_NO_NEIGH)
		h->flags = NEXTHOP_VALID;
	if (result == BPF_FIB_LKUP_RET_SUCCESS) {
		copy_mac(h->dst, way.dmac);
		copy_mac(h->src, way.smac);
	} else if (result == BPF_FIB_LKUP_RET_NO_NEIGH) {
		h->flags |= NEXTHOP_NEIGHBOUR;
		live->refresh = now + 1;
	}
	ifindex = way.ifindex;
	link = bpf_map_lookup_elem(&links, &ifindex);
	if (link && *link & LINK_XDP)
		h->flags |= NEXTHOP_XDP;
	live->nexthop = next;
	return 1;
}

/* What fits the way to a backend, as it was known last; 0 is nothing known. */
INLINE __u32 mtu_to(__u32 slot)
{
	const struct live *live = live_of(slot);

	if (!live)
		return 0;
	return live->nexthop & 1 ? live->hops[1].mtu : live->hops[0].mtu;
}

/* The next hop to a backend; NULL if there is none, with the reason. */
INLINE const struct nexthop *nexthop_of(context *ctx, const struct backend *b, __u32 slot,
					__u32 now, __u32 hz, __u32 *reason)
{
	struct live *live = live_of(slot);
	const struct nexthop *h;

	if (!live)
		return NULL;
	if (unlikely(!is_ahead(live->refresh, now, hz)) && !look_up_way(ctx, b, live, now, hz)) {
		*reason = REASON_FORWARDING_OFF;
		return NULL;
	}
	h = live->nexthop & 1 ? &live->hops[1] : &live->hops[0];
	if (likely(h->flags & NEXTHOP_VALID))
		return h;
	*reason = REASON_NO_ROUTE;
	return NULL;
}

/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* From a packet to a VIP to its backend, of both families. */
#pragma once

#include "forward.h"
#include "mss.h"
#include "nat.h"
#include "reply.h"
#include "schedule.h"
#include "sweeping.h"

#define STEERED 1000

/* What a packet says about the flow it belongs to. */
#define FLOW_GOES_ON 0
#define FLOW_MOVES 1         /* it is to be given out anew */
#define FLOW_ENDS 2          /* its client is told that it has ended */

/* The service that listens there, or NOBODY: one port before a range before all. */
GLOBAL __u32 service_of(const struct vip *vip, const struct packet *p)
{
	struct listen key = {};
	struct ranges *r;
	__u32 *service;
	__u16 port;

	if (!vip || !p)
		return NOBODY;
	key.vip = vip->id;
	key.proto = p->proto;
	key.port = p->dport;
	service = bpf_map_lookup_elem(&listens, &key);
	if (service)
		return *service;
	key.port = 0;
	if (vip->flags & VIP_RANGES) {
		r = bpf_map_lookup_elem(&ranges, &key);
		port = bpf_ntohs(p->dport);
		for (__u32 i = 0; r && i < RANGES; i++) {
			if (i < r->count && r->range[i].first <= port && port <= r->range[i].last)
				return r->range[i].service;
		}
	}
	if (!(vip->flags & VIP_ALL))
		return NOBODY;
	service = bpf_map_lookup_elem(&listens, &key);
	return service ? *service : NOBODY;
}

/* Sends a packet to the backend that was chosen for it. */
INLINE int onward(context *ctx, const struct config *cfg, struct packet *p, struct backend *b,
		  __u32 slot, __u64 hash, __u32 now, int family)
{
	const struct nexthop *h;
	__u32 reason = REASON_NO_ROUTE, over = 0;

	if (b->method == METHOD_LOCAL)
		return PASS;
	h = nexthop_of(ctx, b, slot, now, cfg->hz, &reason);
	if (unlikely(!h))
		return drop(reason);
	if (unlikely(leaves_to_tc(h)))
		return PASS;
	if (b->method == METHOD_TUNNEL)
		over = b->family == V4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	if (unlikely(on_wire(ctx, p, over) > h->mtu))
		return too_big(ctx, p, family, h->mtu - over);
	count_in(SLOT_INDEX(slot), p->len);
	if (unlikely(p->tcp & TCP_SYN))
		clamp_for(ctx, p, b->service, payload_of(h->mtu - over, family));
	if (b->method == METHOD_TUNNEL) {
		if (b->family == V4)
			return send_in_tunnel(ctx, cfg, p, b, h, hash, family, V4);
		return send_in_tunnel(ctx, cfg, p, b, h, hash, family, V6);
	}
	if (b->method == METHOD_NAT)
		return send_translated(ctx, p, b, h, family);
	return send_direct(ctx, b, h, family);
}

INLINE int onward4(context *ctx, const struct config *cfg, struct packet *p, struct backend *b,
		   __u32 slot, __u64 hash, __u32 now)
{
	return onward(ctx, cfg, p, b, slot, hash, now, V4);
}

INLINE int onward6(context *ctx, const struct config *cfg, struct packet *p, struct backend *b,
		   __u32 slot, __u64 hash, __u32 now)
{
	return onward(ctx, cfg, p, b, slot, hash, now, V6);
}

#define FAMILY V4
#define FLOW struct flow4
#define BUCKET struct bucket4
#define MASK buckets4
#define NAME(x) x##4
#include "steer.h"
#undef FAMILY
#undef FLOW
#undef BUCKET
#undef MASK
#undef NAME

#define FAMILY V6
#define FLOW struct flow6
#define BUCKET struct bucket6
#define MASK buckets6
#define NAME(x) x##6
#include "steer.h"
#undef FAMILY
#undef FLOW
#undef BUCKET
#undef MASK
#undef NAME

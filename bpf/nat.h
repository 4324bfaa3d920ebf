/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * NAT: the destination of what comes is rewritten, and the source of what goes back. A flow has a
 * second entry, under the key of its replies, that lives as long as the first.
 */
#pragma once

#include "flows.h"
#include "forward.h"
#include "mss.h"
#include "reply.h"
#include "translate.h"

INLINE void backend_end(const struct backend *b, const struct packet *p, struct end *end)
{
	copy_addr(end->addr, b->addr, V6);
	end->port = b->port ? b->port : p->dport;
}

INLINE int send_translated(context *ctx, struct packet *p, struct backend *b,
			   const struct nexthop *h, int family)
{
	struct end to;

	if (b->family != family)
		return drop(REASON_FAMILY);
	backend_end(b, p, &to);
	if (!rewrite(ctx, p, &to, family, DESTINATION))
		return drop(REASON_CHECKSUM);
	return send_direct(ctx, b, h, family);
}

/* The key of the replies of a flow that this packet of its client's belongs to. */
INLINE void reply_key(const struct packet *p, const struct backend *b, struct packet *reply)
{
	copy_addr(reply->src, b->addr, V6);
	copy_addr(reply->dst, p->src, V6);
	reply->sport = b->port ? b->port : p->dport;
	reply->dport = p->sport;
	reply->proto = p->proto;
}

/* The VIP and port that replies come from, of a reply's entry. */
INLINE int vip_end(__u32 other, struct end *vip)
{
	__u32 id = other >> 16;
	const struct addr6 *addr = bpf_map_lookup_elem(&vip_addrs, &id);

	if (!addr)
		return 0;
	copy_addr(vip->addr, addr->word, V6);
	vip->port = other;
	return 1;
}

/* The key of the flow of its client's that a reply with this key belongs to. */
INLINE void client_key(const struct packet *reply, const struct end *vip, struct packet *p)
{
	copy_addr(p->src, reply->dst, V6);
	copy_addr(p->dst, vip->addr, V6);
	p->sport = reply->dport;
	p->dport = vip->port;
	p->proto = reply->proto;
}

/* What is known of the way to a client; else it is what becomes of the packet. */
#define WAY_KNOWN 1001

/* The way to a client, which has no next hop of its own kept. */
INLINE int fib_to(context *ctx, int family, const __u32 *dst, const __u32 *src,
		  struct bpf_fib_lookup *way, int *result)
{
	__u32 ifindex, *link;

	way->ifindex = ingress(ctx);
	way->tot_len = 1; /* asks for the MTU */
	if (family == V4) {
		way->family = AF_INET;
		way->ipv4_dst = dst[0];
		way->ipv4_src = src[0];
	} else {
		way->family = AF_INET6;
		copy_addr(way->ipv6_dst, dst, V6);
		copy_addr(way->ipv6_src, src, V6);
	}
	*result = bpf_fib_lookup(ctx, way, sizeof(*way), 0);
	if (IS_XDP) {
		ifindex = way->ifindex;
		link = bpf_map_lookup_elem(&links, &ifindex);
		if (*result != BPF_FIB_LKUP_RET_SUCCESS || !link || !(*link & LINK_XDP))
			return PASS;
	}
	if (*result == BPF_FIB_LKUP_RET_FWD_DISABLED)
		return drop(REASON_FORWARDING_OFF);
	if (*result != BPF_FIB_LKUP_RET_SUCCESS && *result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return drop(REASON_NO_ROUTE);
	return WAY_KNOWN;
}

/* On that way. */
INLINE int send_to_client(context *ctx, const struct bpf_fib_lookup *way, int result, int family)
{
	struct ethhdr *eth = DATA(ctx);

	if ((void *)eth + ETH + (family == V4 ? 20 : 40) > DATA_END(ctx))
		return drop(REASON_MALFORMED);
	if (!age(eth + 1, family))
		return drop(REASON_TTL);
#if !IS_XDP
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH) {
		struct bpf_redir_neigh to = {};

		to.nh_family = way->family;
		if (family == V4)
			to.ipv4_nh = way->ipv4_dst;
		else
			copy_addr(to.ipv6_nh, way->ipv6_dst, V6);
		return bpf_redirect_neigh(way->ifindex, &to, sizeof(to), 0);
	}
#endif
	copy_mac(eth->h_dest, way->dmac);
	copy_mac(eth->h_source, way->smac);
#if IS_XDP
	if (way->ifindex == ctx->ingress_ifindex)
		return XDP_TX;
#endif
	return bpf_redirect(way->ifindex, 0);
}

/* What is known of the key of a new flow's replies. */
#define REPLY_NEW 0
#define REPLY_KNOWN 1
#define REPLY_TAKEN 2        /* the client has the same port towards this backend by another VIP */

/* So many backends are tried at which its port may be taken. */
#define NAT_TRIES 4

#define FAMILY V4
#define FLOW struct flow4
#define NAME(x) x##4
#include "nat_flow.h"
#undef FAMILY
#undef FLOW
#undef NAME

#define FAMILY V6
#define FLOW struct flow6
#define NAME(x) x##6
#include "nat_flow.h"
#undef FAMILY
#undef FLOW
#undef NAME

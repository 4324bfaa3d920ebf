/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Sends a packet on, by direct routing or in a tunnel. */
#pragma once

#include "nexthop.h"

/* Out of the interface of the next hop, whose addresses are written already. */
INLINE int send(context *ctx, const struct nexthop *h)
{
#if IS_XDP
	if (h->ifindex == ctx->ingress_ifindex)
		return XDP_TX;
#endif
	return bpf_redirect(h->ifindex, 0);
}

/* XDP sends only to where XDP can send, and leaves the rest to the TC program. */
INLINE int leaves_to_tc(const struct nexthop *h)
{
	return IS_XDP && (h->flags & (NEXTHOP_XDP | NEXTHOP_NEIGHBOUR)) != NEXTHOP_XDP;
}

/* Through the kernel's neighbours, which find the address and keep the packet meanwhile. */
GLOBAL int send_by_neighbour(context *ctx, const struct backend *b)
{
#if IS_XDP
	return PASS;
#else
	struct bpf_fib_lookup way = {};
	struct bpf_redir_neigh to = {};
	int result;

	if (!b)
		return DROP;
	result = fib(ctx, b, &way);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return drop(REASON_NO_ROUTE);
	if (way.family == AF_INET) {
		to.nh_family = AF_INET;
		to.ipv4_nh = way.ipv4_dst;
	} else {
		to.nh_family = AF_INET6;
		copy_addr(to.ipv6_nh, way.ipv6_dst, V6);
	}
	return bpf_redirect_neigh(way.ifindex, &to, sizeof(to), 0);
#endif
}

/* Takes one hop off the time to live; 0 if there is none left. */
INLINE int age(void *l3, int family)
{
	if (family == V4) {
		struct iphdr *ip = l3;
		__u32 sum;

		if (ip->ttl <= 1)
			return 0;
		/* RFC 1624; the TTL is the upper byte of its word. */
		sum = ip->check + bpf_htons(0x0100);
		ip->check = sum + (sum >= 0xffff);
		ip->ttl--;
	} else {
		struct ipv6hdr *ip = l3;

		if (ip->hop_limit <= 1)
			return 0;
		ip->hop_limit--;
	}
	return 1;
}

INLINE int send_direct(context *ctx, struct backend *b, const struct nexthop *h, int family)
{
	struct ethhdr *eth = DATA(ctx);
	__u32 l3 = family == V4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

	if ((void *)eth + ETH + l3 > DATA_END(ctx))
		return drop(REASON_MALFORMED);
	if (!age(eth + 1, family))
		return drop(REASON_TTL);
	if (unlikely(h->flags & NEXTHOP_NEIGHBOUR))
		return send_by_neighbour(ctx, b);
	copy_mac(eth->h_dest, h->dst);
	copy_mac(eth->h_source, h->src);
	return send(ctx, h);
}

/*
 * Makes room for an outer header behind the link's; whether it did. Segments of TCP become smaller by
 * it; datagrams cannot.
 */
INLINE int make_room(context *ctx, int outer, __u8 proto)
{
	int len = outer == V4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
#if IS_XDP
	return bpf_xdp_adjust_head(ctx, -len) == 0;
#else
	__u64 flags = outer == V4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;

	if (proto == IPPROTO_UDP)
		flags |= BPF_F_ADJ_ROOM_FIXED_GSO;
	return bpf_skb_adjust_room(ctx, len, BPF_ADJ_ROOM_MAC, flags) == 0;
#endif
}

/*
 * In IP in IP (RFC 2003, RFC 2473). The traffic class is copied as a whole: RFC 6040's normal mode
 * for the ECN bits, and the uniform model for the rest (RFC 2983 §3).
 */
INLINE int send_in_tunnel(context *ctx, const struct config *cfg, const struct packet *p,
			  struct backend *b, const struct nexthop *h, __u32 hash, int inner,
			  int outer)
{
	struct ethhdr *eth = DATA(ctx);
	__u32 l3 = inner == V4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	__u8 class;

	if ((void *)eth + ETH + l3 > DATA_END(ctx))
		return drop(REASON_MALFORMED);
	if (!age(eth + 1, inner))
		return drop(REASON_TTL);
	if (inner == V4) {
		class = ((struct iphdr *)(eth + 1))->tos;
	} else {
		struct ipv6hdr *ip = (void *)(eth + 1);

		class = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	}
	/* Datagrams that came as one may be too long for the header's word, as one. */
	if (p->len > 0xffff - sizeof(struct ipv6hdr) || !make_room(ctx, outer, p->proto))
		return drop(REASON_NO_ROOM);
	eth = DATA(ctx);
	if (outer == V4) {
		struct iphdr *ip = (void *)(eth + 1);
		__u32 source = b->outer[0], sum;

		if ((void *)(ip + 1) > DATA_END(ctx))
			return drop(REASON_NO_ROOM);
		/* Another one for each flow: receivers share out packets among cores by it. */
		if (cfg->tunnel4)
			source = cfg->tunnel4 | (hash & cfg->host4);
		ip->version = 4;
		ip->ihl = 5;
		ip->tos = class;
		ip->tot_len = bpf_htons(p->len + sizeof(*ip));
		ip->id = 0; /* RFC 6864 §4.1: without meaning where DF is set */
		ip->frag_off = bpf_htons(0x4000);
		ip->ttl = 64;
		ip->protocol = inner == V4 ? IPPROTO_IPIP : IPPROTO_IPV6;
		ip->saddr = source;
		ip->daddr = b->addr[0];
		sum = bpf_htons(0x4500 | class);
		sum += ip->tot_len;
		sum += ip->frag_off;
		sum += bpf_htons(64 << 8 | (inner == V4 ? IPPROTO_IPIP : IPPROTO_IPV6));
		sum += (source & 0xffff) + (source >> 16);
		sum += (b->addr[0] & 0xffff) + (b->addr[0] >> 16);
		ip->check = ~fold(sum);
	} else {
		struct ipv6hdr *ip = (void *)(eth + 1);

		if ((void *)(ip + 1) > DATA_END(ctx))
			return drop(REASON_NO_ROOM);
		ip->version = 6;
		ip->priority = class >> 4;
		/* RFC 6438: the flow label tells the flows in a tunnel apart. */
		ip->flow_lbl[0] = class << 4 | (hash >> 16 & 0xf);
		ip->flow_lbl[1] = hash >> 8;
		ip->flow_lbl[2] = hash;
		ip->payload_len = bpf_htons(p->len);
		ip->nexthdr = inner == V4 ? IPPROTO_IPIP : IPPROTO_IPV6;
		ip->hop_limit = 64;
		if (cfg->tunnel6[0] | cfg->tunnel6[1]) {
			__u32 source[4] = { cfg->tunnel6[0], cfg->tunnel6[1], cfg->tunnel6[2],
					    hash };

			copy_addr((__u32 *)&ip->saddr, source, V6);
		} else {
			copy_addr((__u32 *)&ip->saddr, b->outer, V6);
		}
		copy_addr((__u32 *)&ip->daddr, b->addr, V6);
	}
	eth->h_proto = outer == V4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	if (unlikely(h->flags & NEXTHOP_NEIGHBOUR))
		return send_by_neighbour(ctx, b);
	copy_mac(eth->h_dest, h->dst);
	copy_mac(eth->h_source, h->src);
	return send(ctx, h);
}

// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The director: steers packets to VIPs to their backends. One source for two programs:
 * plimsoll-build: xdp tc other
 *
 * The way of a packet: parsed here; if its destination is a VIP, steering.h finds or begins its flow,
 * and forward.h or nat.h sends it on; what cannot be sent on is answered by reply.h or dropped for
 * one of the reasons of reasons.h. Everything else is passed on untouched.
 */
#include "packet.h"
#include "maps.h"
#include "nat.h"
#include "steering.h"
#include "icmp.h"

#define HEADERS 6            /* IPv6 extension headers at most */

INLINE const struct config *the_config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

/* Whether nothing can be found out from a packet that is not for a VIP. */
INLINE int is_of_no_interest(const struct config *cfg, int is_icmp)
{
	return !(cfg->flags & CONFIG_NAT) && !(cfg->flags & CONFIG_TUNNEL && is_icmp);
}

/* Reads the transport header; whether there was one. */
INLINE int parse_transport(context *ctx, struct packet *p)
{
	void *data, *end;
	__u32 l4 = p->l4;

	pull(ctx, l4 + sizeof(struct tcphdr));
	data = DATA(ctx);
	end = DATA_END(ctx);
	opaque(l4);
	if (l4 > 512)
		return 0;
	if (p->proto == IPPROTO_TCP) {
		struct tcphdr *tcp = data + l4;

		if ((void *)(tcp + 1) > end)
			return 0;
		p->sport = tcp->source;
		p->dport = tcp->dest;
		p->tcp = ((__u8 *)tcp)[13];
	} else {
		struct udphdr *udp = data + l4;

		if ((void *)(udp + 1) > end)
			return 0;
		p->sport = udp->source;
		p->dport = udp->dest;
		p->tcp = 0;
	}
	return 1;
}

INLINE int director4(context *ctx, const struct config *cfg)
{
	struct packet p = {};
	struct iphdr *ip = DATA(ctx) + ETH;
	struct vip *vip;

	if ((void *)(ip + 1) > DATA_END(ctx))
		return PASS;
	p.dst[0] = ip->daddr;
	vip = bpf_map_lookup_elem(&vips4, &p.dst[0]);
	if (likely(!vip && is_of_no_interest(cfg, ip->protocol == IPPROTO_ICMP)))
		return PASS;
	p.src[0] = ip->saddr;
	p.proto = ip->protocol;
	p.len = bpf_ntohs(ip->tot_len);
	p.l4 = ETH + ip->ihl * 4;
	if (p.proto != IPPROTO_TCP && p.proto != IPPROTO_UDP && p.proto != IPPROTO_ICMP)
		return PASS;
	if (unlikely(ip->ihl < 5 || p.len < p.l4 - ETH || !is_whole(ctx, p.len))) {
		if (!vip)
			return PASS;
		return drop(REASON_MALFORMED);
	}
	if (unlikely(ip->frag_off & bpf_htons(0x3fff))) {
		if (vip)
			count(REASON_FRAGMENT);
		return PASS;
	}
	if (p.proto == IPPROTO_ICMP)
		return icmp4(ctx, cfg, &p, vip);
	if (unlikely(!parse_transport(ctx, &p))) {
		if (!vip)
			return PASS;
		return drop(REASON_MALFORMED);
	}
	if (!vip)
		return translate_reply4(ctx, cfg, &p);
	return steer4(ctx, cfg, &p, vip);
}

INLINE int director6(context *ctx, const struct config *cfg)
{
	struct packet p = {};
	struct ipv6hdr *ip = DATA(ctx) + ETH;
	struct vip *vip;

	if ((void *)(ip + 1) > DATA_END(ctx))
		return PASS;
	copy_addr(p.dst, &ip->daddr, V6);
	vip = bpf_map_lookup_elem(&vips6, p.dst);
	if (likely(!vip && is_of_no_interest(cfg, ip->nexthdr == IPPROTO_ICMPV6)))
		return PASS;
	copy_addr(p.src, &ip->saddr, V6);
	p.proto = ip->nexthdr;
	p.len = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	p.l4 = ETH + sizeof(*ip);
	for (int i = 0; i < HEADERS; i++) {
		__u8 *header = DATA(ctx) + p.l4;

		if (likely(p.proto != IPPROTO_HOPOPTS && p.proto != IPPROTO_DSTOPTS &&
			   p.proto != IPPROTO_ROUTING))
			break;
		if (p.l4 > 400 || (void *)(header + 2) > DATA_END(ctx))
			return PASS;
		p.proto = header[0];
		p.l4 += (header[1] + 1) * 8;
	}
	if (p.proto == IPPROTO_FRAGMENT) {
		if (vip)
			count(REASON_FRAGMENT);
		return PASS;
	}
	if (p.proto != IPPROTO_TCP && p.proto != IPPROTO_UDP && p.proto != IPPROTO_ICMPV6) {
		if (vip && (p.proto == IPPROTO_HOPOPTS || p.proto == IPPROTO_DSTOPTS ||
			    p.proto == IPPROTO_ROUTING))
			return drop(REASON_HEADERS);
		return PASS;
	}
	if (unlikely(p.l4 > 512 || p.len < p.l4 - ETH || !is_whole(ctx, p.len))) {
		if (!vip)
			return PASS;
		return drop(REASON_MALFORMED);
	}
	if (p.proto == IPPROTO_ICMPV6)
		return icmp6(ctx, cfg, &p, vip);
	if (unlikely(!parse_transport(ctx, &p))) {
		if (!vip)
			return PASS;
		return drop(REASON_MALFORMED);
	}
	if (!vip)
		return translate_reply6(ctx, cfg, &p);
	return steer6(ctx, cfg, &p, vip);
}

GLOBAL int ipv4(context *ctx, const struct config *cfg)
{
	return cfg ? director4(ctx, cfg) : PASS;
}

GLOBAL int ipv6(context *ctx, const struct config *cfg)
{
	return cfg ? director6(ctx, cfg) : PASS;
}

#ifdef PLIMSOLL_XDP
SEC("xdp")
int plimsoll_xdp(context *ctx)
#else
SEC("classifier")
int plimsoll_tc(context *ctx)
#endif
{
	const struct config *cfg = the_config();
	struct ethhdr *eth;

	pull(ctx, ETH + sizeof(struct ipv6hdr) + sizeof(struct tcphdr));
#if !IS_XDP
	/*
	 * Of a VLAN whose tag was taken off: it belongs to the VLAN's own interface. And what is not for
	 * this host, seen for its interface listens to all: another director may have sent it.
	 */
	if (ctx->vlan_present || ctx->pkt_type != PACKET_HOST)
		return PASS;
#endif
	eth = DATA(ctx);
	if (!cfg || (void *)(eth + 1) > DATA_END(ctx))
		return PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return ipv4(ctx, cfg);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return ipv6(ctx, cfg);
	return PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

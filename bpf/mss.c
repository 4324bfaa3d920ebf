/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Lets TCP on a node announce no greater segments than fit a director's tunnel: what a VIP answers to
 * clients leaves the node directly, so nobody else sees it. At TC egress.
 */
#include "options.h"

/* Bytes of the link layer's header before a packet: 14, or 0 where there is none. */
const volatile __u32 link_header = ETH_HLEN;

/* What each VIP may announce at most; those of IPv4 as ::ffff:a.b.c.d. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct in6_addr);
	__type(value, __u32);
} vips SEC(".maps");

/* Where the transport header of TCP begins, and whose packet it is; 0 for everything else. */
INLINE __u32 parse(context *ctx, struct in6_addr *from)
{
	if (ctx->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;

		if (load(ctx, link_header, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 ||
		    ip.protocol != IPPROTO_TCP || ip.frag_off & bpf_htons(0x1fff))
			return 0;
		from->in6_u.u6_addr32[2] = bpf_htonl(0xffff);
		from->in6_u.u6_addr32[3] = ip.saddr;
		return link_header + ip.ihl * 4;
	}
	if (ctx->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (load(ctx, link_header, &ip, sizeof(ip)) || ip.nexthdr != IPPROTO_TCP)
			return 0;
		*from = ip.saddr;
		return link_header + sizeof(ip);
	}
	return 0;
}

SEC("classifier")
int plimsoll_mss(context *ctx)
{
	struct in6_addr from = {};
	struct packet p = {};
	__u32 *most;
	__u8 flags;

	p.l4 = parse(ctx, &from);
	if (!p.l4 || load(ctx, p.l4 + 13, &flags, 1) || !(flags & TCP_SYN))
		return TC_ACT_UNSPEC;
	most = bpf_map_lookup_elem(&vips, &from);
	if (!most)
		return TC_ACT_UNSPEC;
	p.len = ctx->len - ETH;
	clamp_mss(ctx, &p, *most);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

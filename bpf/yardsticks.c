// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What the director is measured beside: `empty` looks at a packet as far as layer 4, `floor` does the
 * least that forwarding an established IPv4 flow through a tunnel can be. They use the director's maps.
 */
#define PLIMSOLL_XDP
#include "packet.h"
#include "maps.h"
#include "flows.h"

INLINE int parse(context *ctx, struct packet *p)
{
	struct ethhdr *eth = DATA(ctx);
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > DATA_END(ctx))
		return 0;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5)
		return 0;
	p->src[0] = ip->saddr;
	p->dst[0] = ip->daddr;
	p->proto = ip->protocol;
	p->len = bpf_ntohs(ip->tot_len);
	p->sport = tcp->source;
	p->dport = tcp->dest;
	p->tcp = ((__u8 *)tcp)[13];
	return 1;
}

SEC("xdp")
int plimsoll_empty(context *ctx)
{
	struct packet p = {};

	/* The result depends on all that was read, so that it is read. */
	return parse(ctx, &p) && (p.src[0] ^ p.dst[0] ^ p.sport ^ p.dport ^ p.len ^ p.tcp) == 1 ?
		       XDP_DROP :
		       XDP_PASS;
}

SEC("xdp")
int plimsoll_floor(context *ctx)
{
	struct packet p = {};
	__u32 zero = 0, slot = 0;
	const struct config *cfg = bpf_map_lookup_elem(&config, &zero);
	const struct backend *b;
	struct ethhdr *eth;
	struct iphdr *ip;
	__u32 sum;

	if (!cfg || !parse(ctx, &p) || !bpf_map_lookup_elem(&vips4, &p.dst[0]) ||
	    !find4(cfg, flow_hash(cfg, &p, V4), &p, &slot))
		return XDP_PASS;
	b = backend_of(slot);
	if (!b || bpf_xdp_adjust_head(ctx, -(int)sizeof(*ip)))
		return XDP_PASS;
	eth = DATA(ctx);
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > DATA_END(ctx))
		return XDP_DROP;
	eth->h_proto = bpf_htons(ETH_P_IP);
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0;
	ip->tot_len = bpf_htons(p.len + sizeof(*ip));
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = 64;
	ip->protocol = IPPROTO_IPIP;
	ip->saddr = b->outer[0];
	ip->daddr = b->addr[0];
	sum = bpf_htons(0x4500) + ip->tot_len + ip->frag_off + bpf_htons(64 << 8 | IPPROTO_IPIP);
	sum += (ip->saddr & 0xffff) + (ip->saddr >> 16) + (ip->daddr & 0xffff) + (ip->daddr >> 16);
	ip->check = ~fold(sum);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

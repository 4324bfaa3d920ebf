/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the director answers itself: resets, echo replies, "too big". */
#pragma once

#include "counts.h"

/* The sum of so many bytes, a constant and even number, that were seen to be there. */
INLINE __u32 sum_of(const void *from, __u32 len)
{
	const __u16 *words = from;
	__u32 sum = 0;

#pragma unroll
	for (__u32 i = 0; i < len / 2; i++)
		sum += words[i];
	return sum;
}

INLINE __u32 sum_addrs(const struct packet *p, int family)
{
	return family == V4 ? sum_of(p->src, 4) + sum_of(p->dst, 4) :
			      sum_of(p->src, 16) + sum_of(p->dst, 16);
}

/* Back to where it came from. */
INLINE int send_back(context *ctx)
{
#if IS_XDP
	return XDP_TX;
#else
	return bpf_redirect(ctx->ifindex, 0);
#endif
}

INLINE int cut(context *ctx, __u32 len)
{
#if IS_XDP
	long have = DATA_END(ctx) - DATA(ctx);

	opaque(have);
	return bpf_xdp_adjust_tail(ctx, (long)len - have);
#else
	return bpf_skb_change_tail(ctx, len, 0);
#endif
}

/*
 * Whether the device is to finish the checksum of the transport header, as with packets of a local
 * sender: then the field holds the sum of the pseudo header. A checksum that happens to be the same
 * costs one answer, of 65 536.
 */
INLINE int is_unfinished(const struct packet *p, __u16 check, int family)
{
	__u32 l3 = family == V4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

	if (IS_XDP)
		return 0;
	return check == fold(sum_addrs(p, family) + bpf_htons(p->proto) +
			     bpf_htons(p->len - (p->l4 - ETH > l3 ? p->l4 - ETH : l3)));
}

INLINE void swap_macs(struct ethhdr *eth)
{
	__u8 mac[6];

	copy_mac(mac, eth->h_dest);
	copy_mac(eth->h_dest, eth->h_source);
	copy_mac(eth->h_source, mac);
}

INLINE void write_ipv4(struct iphdr *ip, const struct packet *p, __u16 len, __u8 proto)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0;
	ip->tot_len = bpf_htons(len);
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = 64;
	ip->protocol = proto;
	ip->check = 0;
	ip->saddr = p->dst[0];
	ip->daddr = p->src[0];
	ip->check = ~fold(sum_of(ip, sizeof(*ip)));
}

INLINE void write_ipv6(struct ipv6hdr *ip, const struct packet *p, __u16 len, __u8 proto)
{
	ip->version = 6;
	ip->priority = 0;
	ip->flow_lbl[0] = ip->flow_lbl[1] = ip->flow_lbl[2] = 0;
	ip->payload_len = bpf_htons(len);
	ip->nexthdr = proto;
	ip->hop_limit = 64;
	copy_addr((__u32 *)&ip->saddr, p->dst, V6);
	copy_addr((__u32 *)&ip->daddr, p->src, V6);
}

/* Answers a TCP packet with a reset (RFC 9293 §3.10.7.1). */
GLOBAL int reset(context *ctx, const struct packet *p, int family, __u32 reason)
{
	const __u32 l3 = family == V4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct ethhdr *eth = DATA(ctx);
	struct tcphdr *tcp;
	__u32 seq, ack, doff, l4;
	__u16 check;
	int unfinished;

	if (!p)
		return DROP;
	count(reason);
	l4 = p->l4;
	opaque(l4);
	if (p->tcp & TCP_RST || l4 > 512)
		return DROP;
	tcp = (void *)eth + l4;
	if ((void *)(tcp + 1) > DATA_END(ctx))
		return DROP;
	check = tcp->check;
	opaque(check);
	unfinished = is_unfinished(p, check, family);
	seq = bpf_ntohl(tcp->seq);
	ack = tcp->ack_seq;
	doff = tcp->doff * 4;
	/* What the packet takes of the sequence: its payload, SYN and FIN. */
	seq += p->len - (p->l4 - ETH) - doff + !!(p->tcp & TCP_SYN) + !!(p->tcp & TCP_FIN);
	if (cut(ctx, ETH + l3 + sizeof(*tcp)))
		return DROP;
	eth = DATA(ctx);
	tcp = (void *)eth + ETH + l3;
	if ((void *)(tcp + 1) > DATA_END(ctx))
		return DROP;
	swap_macs(eth);
	if (family == V4)
		write_ipv4((void *)(eth + 1), p, l3 + sizeof(*tcp), IPPROTO_TCP);
	else
		write_ipv6((void *)(eth + 1), p, sizeof(*tcp), IPPROTO_TCP);
	tcp->source = p->dport;
	tcp->dest = p->sport;
	tcp->seq = p->tcp & TCP_ACK ? ack : 0;
	tcp->ack_seq = p->tcp & TCP_ACK ? 0 : bpf_htonl(seq);
	((__u16 *)tcp)[6] = p->tcp & TCP_ACK ? bpf_htons(0x5004) : bpf_htons(0x5014);
	tcp->window = 0;
	tcp->urg_ptr = 0;
	tcp->check = fold(sum_addrs(p, family) + bpf_htons(IPPROTO_TCP) +
			  bpf_htons(sizeof(*tcp)));
	if (!unfinished)
		tcp->check = ~fold(sum_of(tcp, sizeof(*tcp)));
	return send_back(ctx);
}

/* A new flow that nobody can take: TCP is refused at once, as by a host where nothing listens. */
INLINE int refuse(context *ctx, const struct packet *p, int family, __u32 reason)
{
	if (p->proto == IPPROTO_TCP)
		return reset(ctx, p, family, reason);
	return drop(reason);
}

/* Tells the sender the greatest packet that fits: RFC 1191 §4, RFC 4443 §3.2. */
GLOBAL int too_big(context *ctx, const struct packet *p, int family, __u32 mtu)
{
	const __u32 l3 = family == V4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	const __u32 quoted = 20;
	const __u32 head = l3 + sizeof(struct icmp);
	struct ethhdr *eth = DATA(ctx);
	__u8 macs[12];
	__u32 sum;
	__u16 check = 0, is = 0;
	void *inner;

	if (!p)
		return DROP;
	count(REASON_TOO_BIG);
	/* No error is told of an error (RFC 1122 §3.2.2, RFC 4443 §2.4). */
	if (p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP)
		return DROP;
	/* Of a packet with options or extension headers too little would be quoted. */
	if (p->l4 != ETH + l3 || (void *)eth + ETH + l3 + quoted > DATA_END(ctx))
		return DROP;
	copy_mac(macs, eth->h_source);
	copy_mac(macs + 6, eth->h_dest);
	inner = (void *)eth + ETH + l3;
	/* What the device will put into a checksum that it is to finish, the answer's must count. */
	is = p->proto == IPPROTO_TCP ? ((__u16 *)inner)[8] : ((__u16 *)inner)[3];
	opaque(is);
	check = is;
	if (is_unfinished(p, is, family))
		check = ~fold(sum_of(inner, quoted));
	if (cut(ctx, ETH + l3 + quoted))
		return DROP;
#if IS_XDP
	if (bpf_xdp_adjust_head(ctx, -(int)head))
		return DROP;
#else
	if (bpf_skb_adjust_room(ctx, head, BPF_ADJ_ROOM_MAC, 0))
		return DROP;
#endif
	eth = DATA(ctx);
	if ((void *)eth + ETH + head + l3 + quoted > DATA_END(ctx))
		return DROP;
	copy_mac(eth->h_dest, macs);
	copy_mac(eth->h_source, macs + 6);
	eth->h_proto = family == V4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	if (family == V4) {
		struct icmp *icmp = (void *)eth + ETH + l3;

		write_ipv4((void *)(eth + 1), p, head + l3 + quoted, IPPROTO_ICMP);
		icmp->type = ICMP_DEST_UNREACH;
		icmp->code = ICMP_FRAG_NEEDED;
		icmp->check = 0;
		icmp->rest = bpf_htonl(mtu & 0xffff);
		sum = sum_of(icmp, sizeof(*icmp) + l3 + quoted);
		sum += (__u16)~is + check;
		icmp->check = ~fold(sum);
	} else {
		struct icmp *icmp = (void *)eth + ETH + l3;

		write_ipv6((void *)(eth + 1), p, sizeof(*icmp) + l3 + quoted, IPPROTO_ICMPV6);
		icmp->type = ICMPV6_PKT_TOOBIG;
		icmp->code = 0;
		icmp->check = 0;
		icmp->rest = bpf_htonl(mtu);
		sum = sum_of(icmp, sizeof(*icmp) + l3 + quoted);
		sum += (__u16)~is + check;
		sum += sum_addrs(p, V6) + bpf_htons(IPPROTO_ICMPV6) +
		       bpf_htons(sizeof(*icmp) + l3 + quoted);
		icmp->check = ~fold(sum);
	}
	return send_back(ctx);
}

/* Answers an echo request. */
INLINE int echo(context *ctx, const struct packet *p, int family)
{
	struct ethhdr *eth = DATA(ctx);
	struct icmp *icmp;

	__u32 l4 = p->l4;

	opaque(l4);
	if (l4 > 512)
		return DROP;
	icmp = (void *)eth + l4;
	if ((void *)eth + ETH + (family == V4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) >
		    DATA_END(ctx) ||
	    (void *)(icmp + 1) > DATA_END(ctx))
		return drop(REASON_MALFORMED);
	count(REASON_ECHO);
	swap_macs(eth);
	if (family == V4) {
		struct iphdr *ip = (void *)(eth + 1);
		__u32 sum;

		icmp->type = ICMP_ECHOREPLY;
		icmp->check = fold((__u32)icmp->check + bpf_htons(ICMP_ECHO << 8));
		sum = ip->check + (__u32)(__u16)~bpf_htons(64 << 8) + bpf_htons(ip->ttl << 8);
		ip->check = fold(sum);
		ip->ttl = 64;
		ip->saddr = p->dst[0];
		ip->daddr = p->src[0];
	} else {
		struct ipv6hdr *ip = (void *)(eth + 1);

		icmp->type = ICMPV6_ECHO_REPLY;
		icmp->check = fold((__u32)icmp->check + (__u16)~bpf_htons(0x0100));
		ip->hop_limit = 64;
		copy_addr((__u32 *)&ip->saddr, p->dst, V6);
		copy_addr((__u32 *)&ip->daddr, p->src, V6);
	}
	return send_back(ctx);
}

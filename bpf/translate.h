/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Writes another address and port into a packet, and mends its checksums. */
#pragma once

#include "counts.h"

/* Which end of a packet is rewritten. */
#define SOURCE 0
#define DESTINATION 1

#ifndef BPF_F_IPV6
#define BPF_F_IPV6 (1ULL << 7)
#endif

struct end {
	__u32 addr[4];
	__be16 port;
};

INLINE __u32 addr_at(int family, int which)
{
	if (family == V4)
		return ETH + (which == SOURCE ? 12 : 16);
	return ETH + (which == SOURCE ? 8 : 24);
}

/* A checksum, after words of this sum gave way to words of that one (RFC 1624). */
INLINE __u16 mend(__u16 check, __u32 was, __u32 is)
{
	return ~fold((__u32)(__u16)~check + (__u16)~fold(was) + fold(is));
}

INLINE __u32 sum_words(const __u32 *addr, int family)
{
	__u32 sum = (addr[0] & 0xffff) + (addr[0] >> 16);

	if (family == V6) {
		sum += (addr[1] & 0xffff) + (addr[1] >> 16);
		sum += (addr[2] & 0xffff) + (addr[2] >> 16);
		sum += (addr[3] & 0xffff) + (addr[3] >> 16);
	}
	return sum;
}

#if IS_XDP

INLINE int rewrite(context *ctx, const struct packet *p, const struct end *to, int family, int which)
{
	const __u32 *was = which == SOURCE ? p->src : p->dst;
	__be16 port = which == SOURCE ? p->sport : p->dport;
	__u32 l4 = p->l4;
	void *data = DATA(ctx), *header;
	__u16 *check;

	opaque(l4);
	if (l4 > 512)
		return 0;
	header = data + l4;
	if (data + ETH + (family == V4 ? 20 : 40) > DATA_END(ctx))
		return 0;
	if (p->proto == IPPROTO_TCP) {
		if (header + 18 > DATA_END(ctx))
			return 0;
		check = header + 16;
		*check = mend(*check, sum_words(was, family) + port,
			      sum_words(to->addr, family) + to->port);
	} else {
		if (header + 8 > DATA_END(ctx))
			return 0;
		check = header + 6;
		/* A UDP checksum of 0 is none. */
		if (*check) {
			__u16 mended = mend(*check, sum_words(was, family) + port,
					    sum_words(to->addr, family) + to->port);

			*check = mended ? mended : 0xffff;
		}
	}
	((__be16 *)header)[which] = to->port;
	if (family == V4) {
		struct iphdr *ip = data + ETH;

		ip->check = mend(ip->check, sum_words(was, V4), sum_words(to->addr, V4));
	}
	copy_addr(data + addr_at(family, which), to->addr, family);
	return 1;
}

#else

INLINE int rewrite(context *ctx, const struct packet *p, const struct end *to, int family, int which)
{
	const __u32 *was = which == SOURCE ? p->src : p->dst;
	__be16 port = which == SOURCE ? p->sport : p->dport;
	__u32 check = p->l4 + (p->proto == IPPROTO_TCP ? 16 : 6);
	__u64 flags = p->proto == IPPROTO_TCP ? 0 : BPF_F_MARK_MANGLED_0;

	if (family == V4) {
		if (bpf_l4_csum_replace(ctx, check, was[0], to->addr[0],
					flags | BPF_F_PSEUDO_HDR | 4) ||
		    bpf_l3_csum_replace(ctx, ETH + 10, was[0], to->addr[0], 4))
			return 0;
	} else {
		__s64 diff = bpf_csum_diff((__be32 *)was, 16, (__be32 *)to->addr, 16, 0);

		/* Kernels before 6.16 do not know the flag, and need none but for packets summed by
		 * their device. */
		if (bpf_l4_csum_replace(ctx, check, 0, diff,
					flags | BPF_F_PSEUDO_HDR | BPF_F_IPV6) &&
		    bpf_l4_csum_replace(ctx, check, 0, diff, flags | BPF_F_PSEUDO_HDR))
			return 0;
	}
	if (port != to->port && bpf_l4_csum_replace(ctx, check, port, to->port, flags | 2))
		return 0;
	return !bpf_skb_store_bytes(ctx, p->l4 + (which == SOURCE ? 0 : 2), &to->port, 2, 0) &&
	       !bpf_skb_store_bytes(ctx, addr_at(family, which), to->addr, family == V4 ? 4 : 16, 0);
}

#endif

/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * ICMP: echo requests to a VIP are answered, and errors are brought to who sent what they quote: to
 * the backend of the flow, or for the replies of NAT to the client.
 */
#pragma once

#include "steering.h"

INLINE int is_error(__u8 type, int family)
{
	if (family == V4)
		return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
		       type == ICMP_PARAMETERPROB;
	return type == ICMPV6_DEST_UNREACH || type == ICMPV6_PKT_TOOBIG ||
	       type == ICMPV6_TIME_EXCEED || type == ICMPV6_PARAMPROB;
}

INLINE int is_too_big(__u8 type, __u8 code, int family)
{
	if (family == V4)
		return type == ICMP_DEST_UNREACH && code == ICMP_FRAG_NEEDED;
	return type == ICMPV6_PKT_TOOBIG;
}

INLINE int same_addr(const __u32 *a, const __u32 *b, int family)
{
	if (a[0] != b[0])
		return 0;
	return family == V4 || (a[1] == b[1] && a[2] == b[2] && a[3] == b[3]);
}

/*
 * The key of the flow that an error is about, as its packets have it in the direction that the
 * error comes from: the quoted packet turned round. Quoted packets with options or extension headers
 * are not looked into.
 */
INLINE int parse_quoted(context *ctx, const struct packet *p, struct packet *quoted, int family)
{
	__u32 at = p->l4, len = family == V4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	__be16 *ports;
	void *data;

	pull(ctx, p->l4 + sizeof(struct icmp) + len + 8);
	data = DATA(ctx);
	opaque(at);
	if (at > 512)
		return 0;
	data += at + sizeof(struct icmp);
	if (data + len + 8 > DATA_END(ctx))
		return 0;
	if (family == V4) {
		struct iphdr *ip = data;

		if (*(__u8 *)ip != 0x45 || ip->frag_off & bpf_htons(0x1fff))
			return 0;
		quoted->src[0] = ip->daddr;
		quoted->dst[0] = ip->saddr;
		quoted->proto = ip->protocol;
	} else {
		struct ipv6hdr *ip = data;

		copy_addr(quoted->src, &ip->daddr, V6);
		copy_addr(quoted->dst, &ip->saddr, V6);
		quoted->proto = ip->nexthdr;
	}
	if (quoted->proto != IPPROTO_TCP && quoted->proto != IPPROTO_UDP)
		return 0;
	ports = data + len;
	/* Errors come to who sent what they quote; another's would be rewritten wrongly. */
	if (!same_addr(quoted->dst, p->dst, family))
		return 0;
	quoted->sport = ports[1];
	quoted->dport = ports[0];
	return 1;
}

/*
 * Writes another address and port into the quoted packet of an error, as its source or destination,
 * and where `outer` says so the address into the error's own header too, at the other end.
 */
INLINE int rewrite_error(context *ctx, const struct packet *p, const __u32 *was, __be16 was_port,
			 const struct end *to, int family, int which, int outer)
{
	__u32 at = p->l4, len = family == V4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	void *data = DATA(ctx), *inner;
	struct icmp *icmp;
	__u32 from = 0, into = 0;

	opaque(at);
	if (at > 512)
		return 0;
	icmp = data + at;
	inner = icmp + 1;
	if (data + ETH + len > DATA_END(ctx) || inner + len + 8 > DATA_END(ctx))
		return 0;
	/* In v4 the quoted header's own checksum makes good for its address. */
	if (family == V4) {
		struct iphdr *ip = inner;

		ip->check = mend(ip->check, sum_words(was, V4), sum_words(to->addr, V4));
	} else {
		from += fold(sum_words(was, V6));
		into += fold(sum_words(to->addr, V6));
	}
	copy_addr(inner + addr_at(family, which) - ETH, to->addr, family);
	from += was_port;
	into += to->port;
	((__be16 *)(inner + len))[which] = to->port;
	if (outer) {
		int end = which == SOURCE ? DESTINATION : SOURCE;

		if (family == V4) {
			struct iphdr *ip = data + ETH;

			ip->check = mend(ip->check, sum_words(was, V4), sum_words(to->addr, V4));
		} else {
			from += fold(sum_words(was, V6));
			into += fold(sum_words(to->addr, V6));
		}
		copy_addr(data + addr_at(family, end), to->addr, family);
	}
	icmp->check = mend(icmp->check, from, into);
	return 1;
}

/* The least that paths are believed to carry: Linux's `min_pmtu`, and RFC 8200 §5. */
#define LEAST_MTU4 552
#define LEAST_MTU6 1280

/* What stands in a tunnel's packet that an error quotes: the key of its flow. */
INLINE int parse_inner(const void *inner, const void *end, __u8 proto, struct packet *quoted)
{
	const __be16 *ports;

	if (proto == IPPROTO_IPIP) {
		const struct iphdr *ip = inner;

		if (inner + sizeof(*ip) + 4 > end || *(__u8 *)ip != 0x45)
			return 0;
		quoted->src[0] = ip->saddr;
		quoted->dst[0] = ip->daddr;
		quoted->proto = ip->protocol;
		ports = inner + sizeof(*ip);
	} else {
		const struct ipv6hdr *ip = inner;

		if (inner + sizeof(*ip) + 4 > end)
			return 0;
		copy_addr(quoted->src, &ip->saddr, V6);
		copy_addr(quoted->dst, &ip->daddr, V6);
		quoted->proto = ip->nexthdr;
		ports = inner + sizeof(*ip);
	}
	quoted->sport = ports[0];
	quoted->dport = ports[1];
	return 1;
}

/* Whether this is the source that the outer header of a flow has: who is not on the way has to guess it. */
INLINE int is_outer(const struct config *cfg, const struct backend *b, __u32 hash,
		    const __u32 *from, int family)
{
	if (family == V4)
		return from[0] == (cfg->tunnel4 ? cfg->tunnel4 | (hash & cfg->host4) : b->outer[0]);
	if (!(cfg->tunnel6[0] | cfg->tunnel6[1]))
		return same_addr(from, b->outer, V6);
	return from[0] == cfg->tunnel6[0] && from[1] == cfg->tunnel6[1] &&
	       from[2] == cfg->tunnel6[2] && from[3] == hash;
}

/*
 * Remembers what a router says that fits the way of a tunnel, if it quotes a packet of one of our
 * flows; senders are told so by the next packet that does not fit (RFC 2003 §5.1, RFC 2473 §7.1).
 */
GLOBAL int learn_mtu(context *ctx, const struct config *cfg, const struct packet *p, int family)
{
	__u32 at, len, slot = NOBODY, now = jiffies(), mtu, least, to[4] = {}, from[4] = {};
	struct packet quoted = {};
	__u64 hash;
	struct backend *b;
	struct icmp *icmp;
	struct live *live;
	void *data;
	__u8 proto;

	if (!cfg || !p)
		return 0;
	len = family == V4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	at = p->l4;
	pull(ctx, at + sizeof(*icmp) + len + sizeof(struct ipv6hdr) + 4);
	data = DATA(ctx);
	opaque(at);
	if (at > 512)
		return 0;
	icmp = data + at;
	data = icmp + 1;
	if (family == V4) {
		struct iphdr *ip = data;

		if ((void *)(ip + 1) > DATA_END(ctx) || *(__u8 *)ip != 0x45)
			return 0;
		proto = ip->protocol;
		to[0] = ip->daddr;
		from[0] = ip->saddr;
		mtu = bpf_ntohl(icmp->rest) & 0xffff;
		data = ip + 1;
	} else {
		struct ipv6hdr *ip = data;

		if ((void *)(ip + 1) > DATA_END(ctx))
			return 0;
		proto = ip->nexthdr;
		copy_addr(to, &ip->daddr, V6);
		copy_addr(from, &ip->saddr, V6);
		mtu = bpf_ntohl(icmp->rest);
		data = ip + 1;
	}
	if (proto != IPPROTO_IPIP && proto != IPPROTO_IPV6)
		return 0;
	if (!parse_inner(data, DATA_END(ctx), proto, &quoted))
		return 0;
	if (proto == IPPROTO_IPIP) {
		hash = flow_hash(cfg, &quoted, V4);
		find4(cfg, hash, &quoted, &slot);
	} else {
		hash = flow_hash(cfg, &quoted, V6);
		find6(cfg, hash, &quoted, &slot);
	}
	b = slot == NOBODY ? NULL : backend_of(slot);
	live = live_of(slot);
	if (!b || !live || b->method != METHOD_TUNNEL || b->family != family ||
	    !same_addr(b->addr, to, family) || !is_outer(cfg, b, hash, from, family) ||
	    !same_addr(p->dst, from, family))
		return 0;
	/* Routers of before RFC 1191 say nothing. */
	if (!mtu)
		return 1;
	least = family == V6 ? LEAST_MTU6 :
		proto == IPPROTO_IPV6 ? LEAST_MTU6 + sizeof(struct iphdr) : LEAST_MTU4;
	if (mtu < least)
		mtu = least;
	/* Of several ways that are taken in turn the narrowest counts. */
	if (live->path_mtu && live->path_mtu < mtu &&
	    is_ahead(live->path_until, now, PATH_SECONDS * cfg->hz))
		return 1;
	count(REASON_PATH_MTU);
	live->path_mtu = mtu;
	live->path_until = now + PATH_SECONDS * cfg->hz;
	live->refresh = now;
	return 1;
}

#define FAMILY V4
#define FLOW struct flow4
#define NAME(x) x##4
#include "icmp_flow.h"
#undef FAMILY
#undef FLOW
#undef NAME

#define FAMILY V6
#define FLOW struct flow6
#define NAME(x) x##6
#include "icmp_flow.h"
#undef FAMILY
#undef FLOW
#undef NAME

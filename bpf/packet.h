/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Packets, as XDP and TC see them: one source, two programs. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"

#define INLINE static __always_inline
/*
 * A function of its own for the verifier, which looks at it once and not once for each way that
 * leads there. Pointers that it is given may be NULL for all that the verifier knows.
 */
#define GLOBAL __attribute__((noinline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#ifdef PLIMSOLL_XDP
typedef struct xdp_md context;
#define PASS XDP_PASS
#define DROP XDP_DROP
#define IS_XDP 1
INLINE __u32 ingress(const context *ctx)
{
	return ctx->ingress_ifindex;
}
#else
typedef struct __sk_buff context;
#define PASS TC_ACT_UNSPEC   /* to the next program, and on */
#define DROP TC_ACT_SHOT
#define IS_XDP 0
INLINE __u32 ingress(const context *ctx)
{
	return ctx->ifindex;
}
#endif

/* ICMP of both families; the kernel's own headers bring the C library with them. */
struct icmp {
	__u8 type;
	__u8 code;
	__u16 check;
	__u32 rest;
};

#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_FRAG_NEEDED 4
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PKT_TOOBIG 2
#define ICMPV6_TIME_EXCEED 3
#define ICMPV6_PARAMPROB 4
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129

#define ETH sizeof(struct ethhdr)
#define V4 4
#define V6 6

/* What is known of a packet once it is parsed. */
struct packet {
	__u32 src[4], dst[4]; /* v4: the first word */
	__be16 sport, dport;
	__u8 proto;
	__u8 tcp;             /* TCP: the byte of its flags */
	__u16 l4;             /* where the transport header is, from the start of the frame */
	__u32 len;            /* from the network header on */
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Keeps the compiler from making this value a second time, which the verifier would not know. */
#define opaque(x) asm volatile("" : "+r"(x))

/* Loads that the compiler cannot take apart: the verifier wants them as they are written here. */
#define LOAD(ctx, field) ({                                                                        \
	void *_p;                                                                                  \
	asm volatile("%0 = *(u32 *)(%1 + %2)"                                                      \
		     : "=r"(_p)                                                                    \
		     : "r"(ctx), "i"(__builtin_offsetof(context, field)));                         \
	_p;                                                                                        \
})

#define DATA(ctx) LOAD(ctx, data)
#define DATA_END(ctx) LOAD(ctx, data_end)

/* Makes sure that so many bytes can be read directly; TC only. */
INLINE void pull(context *ctx, __u32 len)
{
#if !IS_XDP
	if (unlikely(DATA(ctx) + len > DATA_END(ctx)))
		bpf_skb_pull_data(ctx, len < ctx->len ? len : ctx->len);
#endif
}

/* Whether so many bytes from the network header on are there at all. */
INLINE int is_whole(context *ctx, __u32 len)
{
#if IS_XDP
	__u64 have = DATA_END(ctx) - DATA(ctx);
#else
	__u64 have = ctx->len;
#endif
	return ETH + len <= have;
}

/*
 * How long a packet will be on the wire with so many bytes of an outer header, from the first network
 * header on; of several in one, each. Segments of TCP give up what the outer header takes.
 */
INLINE __u32 on_wire(const context *ctx, const struct packet *p, __u32 over)
{
#if !IS_XDP
	if (ctx->gso_size)
		return p->l4 - ETH + ctx->gso_size +
		       (p->proto == IPPROTO_UDP ? sizeof(struct udphdr) + over :
						  sizeof(struct tcphdr));
#endif
	return p->len + over;
}

INLINE void copy_mac(void *to, const void *from)
{
	__u16 *t = to;
	const __u16 *f = from;

	t[0] = f[0];
	t[1] = f[1];
	t[2] = f[2];
}

INLINE void copy_addr(__u32 *to, const void *from, int family)
{
	const __u32 *f = from;

	to[0] = f[0];
	if (family == V6) {
		to[1] = f[1];
		to[2] = f[2];
		to[3] = f[3];
	}
}

INLINE __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

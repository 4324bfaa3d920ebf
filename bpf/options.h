/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The greatest segment that a SYN announces (RFC 9293 §3.7.1), made smaller. */
#pragma once

#include "packet.h"
#if IS_XDP
#include "translate.h"
#endif

#define OPTIONS 40           /* bytes of TCP options at most */
#define OPTION_END 0
#define OPTION_NOTHING 1
#define OPTION_MSS 2

/* The options of a SYN, looked through one by one. */
struct options {
	__u8 bytes[OPTIONS];
	__u32 len;
	__u32 at;            /* the next one */
	__u32 mss;           /* where the size is; 0 is nowhere */
};

static long next_option(__u32 i, void *data)
{
	struct options *options = data;
	__u32 at = options->at;
	__u8 kind, len;

	opaque(at);
	if (at >= options->len || at > OPTIONS - 4)
		return 1;
	kind = options->bytes[at];
	if (kind == OPTION_END)
		return 1;
	if (kind == OPTION_NOTHING) {
		options->at = at + 1;
		return 0;
	}
	len = options->bytes[at + 1];
	if (len < 2)
		return 1;
	if (kind == OPTION_MSS) {
		if (len == 4 && at + 4 <= options->len)
			options->mss = at + 2;
		return 1;
	}
	options->at = at + len;
	return 0;
}

INLINE long load(context *ctx, __u32 at, void *to, __u32 len)
{
#if IS_XDP
	return bpf_xdp_load_bytes(ctx, at, to, len);
#else
	return bpf_skb_load_bytes(ctx, at, to, len);
#endif
}

/* A word of 16 bits as the checksum has it that begins at this place. */
INLINE __u16 summed(__u16 value, __u32 at)
{
	__u16 word = bpf_htons(value);

	return at & 1 ? (__u16)(word << 8 | word >> 8) : word;
}

/* Lets a SYN announce segments of so many bytes at most. What cannot be read stays as it is. */
GLOBAL int clamp_mss(context *ctx, const struct packet *p, __u32 most)
{
	struct options options = {};
	__u32 l4, len, at;
	__u16 was;
	__be16 word;
	__u8 offset;

	if (!p || !most || most > 0xffff)
		return 0;
	l4 = p->l4;
	opaque(l4);
	if (l4 > 512 || load(ctx, l4 + 12, &offset, 1))
		return 0;
	len = (offset >> 4) * 4 - sizeof(struct tcphdr);
	opaque(len);
	if (len < 4 || len > OPTIONS || p->l4 - ETH + sizeof(struct tcphdr) + len > p->len)
		return 0;
	if (load(ctx, l4 + sizeof(struct tcphdr), options.bytes, len))
		return 0;
	options.len = len;
	bpf_loop(OPTIONS, next_option, &options, 0);
	at = options.mss;
	opaque(at);
	if (at < 2 || at > OPTIONS - 2)
		return 0;
	was = options.bytes[at] << 8 | options.bytes[at + 1];
	if (was <= most)
		return 0;
	word = bpf_htons(most);
#if IS_XDP
	{
		void *header = DATA(ctx) + l4;
		__u16 *check = header + 16;

		if (header + 18 > DATA_END(ctx))
			return 0;
		*check = mend(*check, summed(was, at), summed(most, at));
		return bpf_xdp_store_bytes(ctx, l4 + sizeof(struct tcphdr) + at, &word, 2) == 0;
	}
#else
	return !bpf_l4_csum_replace(ctx, l4 + 16, summed(was, at), summed(most, at), 2) &&
	       !bpf_skb_store_bytes(ctx, l4 + sizeof(struct tcphdr) + at, &word, 2, 0);
#endif
}

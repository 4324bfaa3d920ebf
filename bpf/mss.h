/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Segments as a service lets its SYNs announce them. */
#pragma once

#include "backends.h"
#include "options.h"

/* So many bytes, or what fits, where `room` is left for TCP's payload on the way to the backend. */
INLINE int clamp_for(context *ctx, const struct packet *p, __u32 service, __u32 room)
{
	const struct service *s = bpf_map_lookup_elem(&services, &service);

	if (!s || !s->mss)
		return 0;
	return clamp_mss(ctx, p, s->mss == MSS_FIT ? room : s->mss);
}

/* What is left for TCP's payload in packets of this length. */
INLINE __u32 payload_of(__u32 len, int family)
{
	__u32 headers = (family == V4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) +
			sizeof(struct tcphdr);

	return len > headers ? len - headers : 0;
}

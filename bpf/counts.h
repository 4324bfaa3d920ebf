/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Counts: why packets were not forwarded, and what backends were given. */
#pragma once

#include "maps.h"
#include "packet.h"

INLINE void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&reasons, &reason);

	if (n)
		(*n)++;
}

/* Drops, for a reason that is counted. */
INLINE int drop(__u32 reason)
{
	count(reason);
	return DROP;
}

INLINE void count_in(__u32 index, __u32 len)
{
	struct traffic *t = bpf_map_lookup_elem(&traffic, &index);

	if (t) {
		t->packets_in++;
		t->bytes_in += len;
	}
}

INLINE void count_out(__u32 index, __u32 len)
{
	struct traffic *t = bpf_map_lookup_elem(&traffic, &index);

	if (t) {
		t->packets_out++;
		t->bytes_out += len;
	}
}

INLINE void count_reset(__u32 index)
{
	struct traffic *t = bpf_map_lookup_elem(&traffic, &index);

	if (t)
		t->resets++;
}

INLINE void count_flow(__u32 index)
{
	struct traffic *t = bpf_map_lookup_elem(&traffic, &index);

	if (t)
		t->flows++;
}

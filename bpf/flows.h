/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The table of flows: buckets of WAYS entries in an array, of which a flow has two.
 *
 * Unlike the kernel's LRU maps it puts out nothing by itself: an established flow stays until its
 * time is over, whatever else comes, and every entry that goes is taken off its backend's count.
 * Finding takes no lock; whoever changes the entries of a bucket holds the bucket's.
 */
#pragma once

#include "backends.h"

#define LOCK_TRIES 16
/* Jiffies for which the second entry of a flow stands before its first is missed. */
#define GRACE 64

/*
 * Every bit of the word counts in every bit of what comes out: products spread bits upwards only, so
 * their upper halves are folded down before and after. A seed makes it hard to aim at a bucket.
 */
INLINE __u64 stir(__u64 h, __u64 word)
{
	h ^= word;
	h = (h ^ h >> 32) * 0x9e3779b97f4a7c15ull;
	h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9ull;
	return h ^ h >> 32;
}

INLINE __u64 flow_hash(const struct config *cfg, const struct packet *p, int family)
{
	__u64 h = cfg->seed;

	h = stir(h, (__u64)p->src[0] << 32 | p->dst[0]);
	if (family == V6) {
		h = stir(h, (__u64)p->src[1] << 32 | p->dst[1]);
		h = stir(h, (__u64)p->src[2] << 32 | p->dst[2]);
		h = stir(h, (__u64)p->src[3] << 32 | p->dst[3]);
	}
	return stir(h, (__u64)p->proto << 32 | (__u32)p->sport << 16 | p->dport);
}

INLINE __u16 flow_tag(__u64 hash)
{
	__u16 tag = hash >> 48;

	return tag ? tag : 1;
}

INLINE __u32 flow_check(__u64 hash)
{
	return hash >> 32;
}

GLOBAL int lock_again(__u32 *lock)
{
	if (!lock)
		return 0;
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (__sync_val_compare_and_swap(lock, 0, 1) == 0)
			return 1;
	}
	return 0;
}

/* Takes a bucket's lock; whether it did. */
INLINE int lock(__u32 *lock)
{
	return likely(__sync_val_compare_and_swap(lock, 0, 1) == 0) || lock_again(lock);
}

INLINE void unlock(__u32 *lock)
{
	__sync_lock_test_and_set(lock, 0);
}

/*
 * How much an entry may be put out for a new one; 0: not at all. Half-open flows may, and those that are
 * over: where but one side is known to have closed, only after a while without a packet.
 */
GLOBAL __u32 yields(__u32 now, __u32 word, __u32 seen, __u32 hz)
{
	__u32 state = FLOW_STATE(word), time = quiet(now, seen);

	if (state == STATE_FIN)
		return time >= 2 * hz ? time : 0;
	if (state != STATE_SYN && state != STATE_MIDDLE && state != STATE_RESET &&
	    state != STATE_CLOSING)
		return 0;
	return time + 1;
}

#define FAMILY V4
#define FLOWS flows4
#define FLOW struct flow4
#define BUCKET struct bucket4
#define MASK buckets4
#define NEXT next4
#define NAME(x) x##4
#include "flow_table.h"
#undef FAMILY
#undef FLOWS
#undef FLOW
#undef BUCKET
#undef MASK
#undef NEXT
#undef NAME

#define FAMILY V6
#define FLOWS flows6
#define FLOW struct flow6
#define BUCKET struct bucket6
#define MASK buckets6
#define NEXT next6
#define NAME(x) x##6
#include "flow_table.h"
#undef FAMILY
#undef FLOWS
#undef FLOW
#undef BUCKET
#undef MASK
#undef NEXT
#undef NAME

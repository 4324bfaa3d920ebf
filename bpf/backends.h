/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Backends by their slots, and how many flows each has. */
#pragma once

#include "counts.h"

INLINE __u32 jiffies(void)
{
	return bpf_jiffies64();
}

/* The backend of a slot, if the slot was not given to another one since. */
INLINE struct backend *backend_of(__u32 slot)
{
	__u32 index = SLOT_INDEX(slot);
	struct backend *b = bpf_map_lookup_elem(&backends, &index);

	if (!b || b->generation != SLOT_GENERATION(slot))
		return NULL;
	return b;
}

INLINE struct live *live_of(__u32 slot)
{
	__u32 index = SLOT_INDEX(slot);

	return bpf_map_lookup_elem(&lives, &index);
}

/* Established TCP and UDP flows are active, as in IPVS. */
INLINE int is_active(__u32 state)
{
	return state == STATE_ESTABLISHED || state == STATE_UDP;
}

INLINE void count_begin(const struct backend *b, __u32 slot, __u32 state)
{
	struct live *live = live_of(slot);

	if (!live)
		return;
	__sync_fetch_and_add(is_active(state) ? &live->active : &live->inactive, 1);
	if (b->upper && live->active + live->inactive >= b->upper)
		live->overloaded = 1;
}

INLINE void count_end(const struct backend *b, __u32 slot, __u32 state)
{
	struct live *live = live_of(slot);

	if (!live)
		return;
	__sync_fetch_and_add(is_active(state) ? &live->active : &live->inactive, -1);
	/* Below the lower threshold, by default three quarters of the upper one, as in IPVS. */
	if (live->overloaded) {
		__u64 total = (__u64)live->active + live->inactive;

		if (b->lower ? total < b->lower : total * 4 < (__u64)b->upper * 3)
			live->overloaded = 0;
	}
}

/* Brings a flow into another state; of those who try at once, one does. */
INLINE void change_state(__u32 *word, __u32 slot, __u32 from, __u32 state)
{
	__u32 to = (from & ~0xf00) | state << 8;
	struct live *live = live_of(slot);

	if (!live || from == to || __sync_val_compare_and_swap(word, from, to) != from)
		return;
	if (is_active(FLOW_STATE(from)) != is_active(state)) {
		__sync_fetch_and_add(&live->active, is_active(state) ? 1 : -1);
		__sync_fetch_and_add(&live->inactive, is_active(state) ? -1 : 1);
	}
}

/* For how long nothing was seen. Another core may be some ticks ahead of this one's `now`. */
INLINE __u32 quiet(__u32 now, __u32 seen)
{
	__u32 time = now - seen;

	return time > 0xffffff00 ? 0 : time;
}

/* Whether it has been quiet for longer than its state allows. */
INLINE int is_over(__u32 now, __u32 seen, __u32 word, const struct backend *b)
{
	__u32 index = b->service;
	const struct service *service = bpf_map_lookup_elem(&services, &index);

	return !service || quiet(now, seen) >= service->timeouts[FLOW_STATE(word) & (STATES - 1)];
}

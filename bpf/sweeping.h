/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Ageing without a process: the first packet of a jiffy looks through some buckets, so that the
 * whole table is seen every few seconds; and for those without a packet before it, up to a bound.
 */
#pragma once

#include "flows.h"

/* Jiffies that one packet makes good for. */
#define SWEEP_JIFFIES 16

GLOBAL int sweep_some(const struct config *cfg, __u32 now)
{
	__u32 zero = 0, last, steps, some4, some6;
	struct sweep *s = bpf_map_lookup_elem(&sweep, &zero);
	struct sweep mine;

	if (!s || !cfg)
		return 0;
	last = s->last;
	if (last == now || __sync_val_compare_and_swap(&s->last, last, now) != last)
		return 0;
	mine.last = now;
	steps = now - last < SWEEP_JIFFIES ? now - last : SWEEP_JIFFIES;
	some4 = cfg->sweep4 * steps;
	some6 = cfg->sweep6 * steps;
	mine.next4 = __sync_fetch_and_add(&s->next4, some4);
	mine.next6 = __sync_fetch_and_add(&s->next6, some6);
	mine.pad = 0;
	bpf_loop(some4 * 8, sweep_step4, &mine, 0);
	bpf_loop(some6 * 8, sweep_step6, &mine, 0);
	return 0;
}

INLINE void sweep_on(const struct config *cfg, __u32 now)
{
	__u32 zero = 0;
	struct sweep *s = bpf_map_lookup_elem(&sweep, &zero);

	if (s && unlikely(s->last != now))
		sweep_some(cfg, now);
}

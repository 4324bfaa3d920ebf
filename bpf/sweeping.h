/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Ageing without a process: the first packet of a jiffy looks through some buckets, so that the
 * whole table is seen every few seconds.
 */
#pragma once

#include "flows.h"

GLOBAL int sweep_some(const struct config *cfg, __u32 now)
{
	__u32 zero = 0, last;
	struct sweep *s = bpf_map_lookup_elem(&sweep, &zero);
	struct sweep mine;

	if (!s || !cfg)
		return 0;
	last = s->last;
	if (last == now || __sync_val_compare_and_swap(&s->last, last, now) != last)
		return 0;
	mine.last = now;
	mine.next4 = __sync_fetch_and_add(&s->next4, cfg->sweep4);
	mine.next6 = __sync_fetch_and_add(&s->next6, cfg->sweep6);
	mine.pad = 0;
	bpf_loop(cfg->sweep4 * 8, sweep_step4, &mine, 0);
	bpf_loop(cfg->sweep6 * 8, sweep_step6, &mine, 0);
	return 0;
}

INLINE void sweep_on(const struct config *cfg, __u32 now)
{
	__u32 zero = 0;
	struct sweep *s = bpf_map_lookup_elem(&sweep, &zero);

	if (s && unlikely(s->last != now))
		sweep_some(cfg, now);
}

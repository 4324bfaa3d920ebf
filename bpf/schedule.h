/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Which backend a new flow gets. */
#pragma once

#include "flows.h"

#define NOBODY 0xffffffff
/* Other entries of a table that are tried when the first cannot take the flow. */
#define TRIES 128

INLINE __u64 client_hash(const struct service *s, const struct packet *p, int family)
{
	const __u32 *a = s->key == HASH_DESTINATION ? p->dst : p->src;
	__u64 h = s->seed;

	h = stir(h, a[0]);
	if (family == V6) {
		h = stir(h, (__u64)a[1] << 32 | a[2]);
		h = stir(h, a[3]);
	}
	if (s->key == HASH_SOURCE_PORT)
		h = stir(h, p->sport);
	return stir(h, 0);
}

INLINE __u32 slot_at(void *set, __u32 i)
{
	__u32 *slot;

	i++;
	slot = bpf_map_lookup_elem(set, &i);
	return slot ? *slot : NOBODY;
}

/* How loaded the backend of a slot is; NULL if it cannot be given anything. */
INLINE const struct live *takes(const struct backend *b, __u32 slot)
{
	const struct live *live = live_of(slot);

	return b && live && b->flags & BACKEND_NEW && !(b->upper && live->overloaded) ? live : NULL;
}

/* One look through the backends of a service, in the order of their set. */
struct look {
	void *set;
	__u32 sched;
	__u32 slot;          /* the best so far */
	__u64 load;          /* its load, and its weight */
	__u64 weight;
	__u32 from;          /* where it begins */
	__u32 len;
	__u64 hash;
};

/* As IPVS: an established connection costs as much as 256 others; sed and nq see no others. */
INLINE __u64 load_of(const struct live *live, __u32 sched)
{
	__u64 active = live->active;

	return sched == SCHED_SED || sched == SCHED_NQ ? active + 1 : (active << 8) + live->inactive;
}

static long look_at(__u32 i, void *data)
{
	struct look *look = data;
	__u32 slot = slot_at(look->set, i);
	struct backend *b = slot == NOBODY ? NULL : backend_of(slot);
	const struct live *live = takes(b, slot);
	__u64 load, weight;

	if (!live || !b || !b->weight)
		return 0;
	switch (look->sched) {
	case SCHED_FIRST:
		look->slot = slot;
		return 1;
	case SCHED_OVF:
		if (look->slot == NOBODY)
			look->slot = slot;
		if (live->active > b->weight)
			return 0;
		look->slot = slot;
		return 1;
	case SCHED_NQ:
		if (!live->active) {
			look->slot = slot;
			return 1;
		}
	}
	load = load_of(live, look->sched);
	weight = look->sched == SCHED_LC ? 1 : b->weight;
	/* load / weight < best load / best weight */
	if (look->slot == NOBODY || load * look->weight < look->load * weight) {
		look->slot = slot;
		look->load = load;
		look->weight = weight;
	}
	return 0;
}

static long turn_to(__u32 i, void *data)
{
	struct look *look = data;
	__u32 slot = slot_at(look->set, (look->from + i) % look->len);
	struct backend *b = slot == NOBODY ? NULL : backend_of(slot);

	if (!takes(b, slot))
		return 0;
	look->slot = slot;
	return 1;
}

INLINE long hash_to(__u32 i, struct look *look)
{
	__u32 slot = slot_at(look->set, (look->hash & 0xffffffff) * look->len >> 32);
	struct backend *b = slot == NOBODY ? NULL : backend_of(slot);

	look->hash = stir(look->hash, i + 1);
	if (!takes(b, slot))
		return 0;
	look->slot = slot;
	return 1;
}

static long hash_to_next(__u32 i, void *data)
{
	return hash_to(i + 1, data);
}

/* The slot that a new flow of this hash gets, or NOBODY. */
GLOBAL __u32 schedule(__u32 service, struct service *s, __u64 hash)
{
	struct look look = { .slot = NOBODY, .hash = hash };
	__u32 zero = 0, *len, other;
	const struct backend *a, *b;
	const struct live *of_a, *of_b;

	if (!s)
		return NOBODY;
	look.set = bpf_map_lookup_elem(&sets, &service);
	if (!look.set)
		return NOBODY;
	len = bpf_map_lookup_elem(look.set, &zero);
	if (!len || !*len)
		return NOBODY;
	look.len = *len;
	look.sched = s->sched;
	switch (s->sched) {
	case SCHED_TURN:
		look.from = __sync_fetch_and_add(&s->turn, 1) % look.len;
		bpf_loop(look.len, turn_to, &look, 0);
		break;
	case SCHED_RANDOM:
		look.hash = stir(hash, bpf_get_prandom_u32());
		/* fall through */
	case SCHED_HASH:
		/* Nearly always the first try. */
		if (unlikely(!hash_to(0, &look)))
			bpf_loop(TRIES, hash_to_next, &look, 0);
		break;
	case SCHED_TWOS:
		look.hash = stir(hash, bpf_get_prandom_u32());
		bpf_loop(TRIES, hash_to_next, &look, 0);
		other = look.slot;
		bpf_loop(TRIES, hash_to_next, &look, 0);
		if (other == NOBODY || look.slot == NOBODY)
			break;
		a = backend_of(other);
		b = backend_of(look.slot);
		of_a = live_of(other);
		of_b = live_of(look.slot);
		if (a && b && of_a && of_b &&
		    load_of(of_a, SCHED_LEAST) * b->weight < load_of(of_b, SCHED_LEAST) * a->weight)
			return other;
		break;
	default:
		bpf_loop(look.len, look_at, &look, 0);
	}
	return look.slot;
}

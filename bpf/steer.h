/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What becomes of a packet to a VIP; of one family, included by steering.h once for each. */

/* What a packet does to the flow it belongs to, where that is more than to go on. */
GLOBAL int NAME(follow)(FLOW *f, const struct backend *b, const struct packet *p, __u32 now,
			__u32 hz)
{
	__u32 word, state, slot;

	if (!f || !b || !p)
		return FLOW_GOES_ON;
	word = f->word;
	slot = f->where.slot;
	state = FLOW_STATE(word);
	if (b->flags & BACKEND_DEADLINE && (__s32)(now - b->until) >= 0)
		return b->flags & BACKEND_RESET && p->proto == IPPROTO_TCP ? FLOW_ENDS : FLOW_MOVES;
	if (p->proto != IPPROTO_TCP)
		return b->flags & BACKEND_GONE ? FLOW_MOVES : FLOW_GOES_ON;
	if (p->tcp & TCP_RST) {
		change_state(&f->word, slot, word, STATE_RESET);
	} else if (p->tcp & TCP_SYN) {
		/*
		 * Its client has begun anew with the same port. Where it stands the backend is to say
		 * what it thinks of that (RFC 5961 §4): anybody may have sent it.
		 */
		if (state == STATE_FIN || state == STATE_CLOSING || state == STATE_RESET) {
			/* The replies of a NAT flow that is over may be another's by now. */
			if (b->method == METHOD_NAT || !(b->flags & BACKEND_NEW))
				return FLOW_MOVES;
			change_state(&f->word, slot, word, STATE_SYN);
		}
		if (!(b->flags & BACKEND_NEW) &&
		    (state == STATE_SYN || (b->flags & (BACKEND_GONE | BACKEND_LEFT)) == BACKEND_GONE))
			return FLOW_MOVES;
	} else if (p->tcp & TCP_FIN) {
		if (state != STATE_CLOSING)
			change_state(&f->word, slot, word, STATE_FIN);
	} else if (state == STATE_SYN || state == STATE_RESET) {
		/* After RESET: the server did not believe the reset, or it was forged. */
		change_state(&f->word, slot, word, STATE_ESTABLISHED);
	} else if (state == STATE_MIDDLE) {
		if (quiet(now, f->seen) < hz)
			return FLOW_GOES_ON;
		change_state(&f->word, slot, word, STATE_ESTABLISHED);
	}
	f->seen = now;
	return FLOW_GOES_ON;
}

INLINE int NAME(begin)(context *ctx, const struct config *cfg, const struct packet *p, __u64 hash,
		       const struct vip *vip, __u32 now, __u32 *slot)
{
	struct NAME(new) n = { .hash = hash, .now = now };
	struct service *s;
	struct backend *b;
	__u32 index, state;
	__u64 client;
	int known;

	index = service_of(vip, p);
	if (index == NOBODY) {
		count(REASON_NO_SERVICE);
		return PASS;
	}
	s = bpf_map_lookup_elem(&services, &index);
	if (!s || !(s->flags & SERVICE_USED))
		return drop(REASON_NO_SERVICE);
	state = STATE_UDP;
	if (p->proto == IPPROTO_TCP) {
		state = STATE_SYN;
		if ((p->tcp & (TCP_SYN | TCP_ACK)) != TCP_SYN) {
			state = STATE_MIDDLE;
			if (s->midstream == MIDSTREAM_PASS)
				return PASS;
			if (s->midstream == MIDSTREAM_DROP)
				return drop(REASON_MIDSTREAM_DROPPED);
			if (s->midstream == MIDSTREAM_RESET)
				return reset(ctx, p, FAMILY, REASON_MIDSTREAM_RESET);
			count(REASON_REHASHED);
		}
	}
	client = client_hash(s, p, FAMILY);
	for (__u32 i = 0; i < NAT_TRIES; i++) {
		*slot = schedule(index, s, client);
		b = *slot == NOBODY ? NULL : backend_of(*slot);
		if (!b)
			return refuse(ctx, p, FAMILY, REASON_NO_BACKEND);
		n.word = p->proto | state << 8;
		n.slot = *slot;
		count_begin(b, *slot, state);
		known = REPLY_KNOWN;
		if (!NAME(remember)(cfg, p, &n)) {
			count_end(b, *slot, state);
			/* Replies must find their way back: else it is no use to send it on. */
			if (b->method == METHOD_NAT)
				return DROP;
		} else if (b->method == METHOD_NAT) {
			known = NAME(remember_reply)(cfg, p, &n, b, vip->id);
		}
		if (known == REPLY_KNOWN) {
			count_flow(SLOT_INDEX(*slot));
			return STEERED;
		}
		NAME(forget)(cfg, hash, p);
		if (known != REPLY_TAKEN)
			return DROP;
		client = stir(client, i + 1);
	}
	return refuse(ctx, p, FAMILY, REASON_NAT_TAKEN);
}

INLINE int NAME(steer)(context *ctx, const struct config *cfg, struct packet *p,
		       const struct vip *vip)
{
	__u32 now = jiffies(), slot = NOBODY;
	__u64 hash = flow_hash(cfg, p, FAMILY);
	struct backend *b = NULL;
	FLOW *f;
	int verdict;

	sweep_on(cfg, now);
	f = NAME(find)(cfg, hash, p, &slot);
	if (likely(f))
		b = backend_of(slot);
	if (likely(b)) {
		__u32 state = FLOW_STATE(f->word);

		if (likely(is_active(state) && !(p->tcp & (TCP_SYN | TCP_FIN | TCP_RST)) &&
			   !(b->flags & (BACKEND_DEADLINE | BACKEND_GONE)))) {
			if (unlikely(quiet(now, f->seen) >= cfg->hz / 2))
				f->seen = now;
			return NAME(onward)(ctx, cfg, p, b, slot, hash, now);
		}
		verdict = NAME(follow)(f, b, p, now, cfg->hz);
		if (verdict == FLOW_GOES_ON)
			return NAME(onward)(ctx, cfg, p, b, slot, hash, now);
		NAME(forget)(cfg, hash, p);
		if (verdict == FLOW_ENDS) {
			count_reset(SLOT_INDEX(slot));
			return reset(ctx, p, FAMILY, REASON_ENDED_RESET);
		}
		count(REASON_MOVED);
	} else if (f) {
		NAME(forget)(cfg, hash, p);
	}
	verdict = NAME(begin)(ctx, cfg, p, hash, vip, now, &slot);
	if (verdict != STEERED)
		return verdict;
	b = backend_of(slot);
	if (!b)
		return drop(REASON_NO_BACKEND);
	return NAME(onward)(ctx, cfg, p, b, slot, hash, now);
}

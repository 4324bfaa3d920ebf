/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The replies of NAT, of one family; included by nat.h once for each. */

/*
 * Whether replies with this key are known already, and as those of which flow. One that both sides have
 * closed, or that was reset, gives its key away: its client has taken the port again, for another VIP.
 */
GLOBAL int NAME(find_reply)(const struct config *cfg, const struct packet *reply,
			    const struct NAME(new) *n)
{
	__u32 slot, state;
	FLOW *f;

	if (!cfg || !reply || !n)
		return REPLY_TAKEN;
	f = NAME(find)(cfg, n->hash, reply, &slot);
	if (!f)
		return REPLY_NEW;
	if (f->other == n->other && slot == n->slot)
		return REPLY_KNOWN;
	if (!NAME(is_dead)(n->now, f)) {
		state = FLOW_STATE(NAME(word_of_flow)(f));
		if (state != STATE_NONE && state != STATE_CLOSING && state != STATE_RESET)
			return REPLY_TAKEN;
	}
	NAME(forget)(cfg, n->hash, reply);
	return REPLY_NEW;
}

/* Remembers whose replies these will be: REPLY_… */
GLOBAL int NAME(remember_reply)(const struct config *cfg, const struct packet *p,
				const struct NAME(new) *of, const struct backend *b, __u32 vip)
{
	struct packet reply = {};
	struct NAME(new) n = {};
	int found;

	if (!cfg || !p || !of || !b)
		return REPLY_NEW;
	reply_key(p, b, &reply);
	n.hash = flow_hash(cfg, &reply, FAMILY);
	n.now = of->now;
	n.word = p->proto | STATE_ESTABLISHED << 8 | FLOW_REPLY;
	n.slot = of->slot;
	n.other = vip << 16 | p->dport;
	found = NAME(find_reply)(cfg, &reply, &n);
	if (found == REPLY_NEW && NAME(remember)(cfg, &reply, &n))
		return REPLY_KNOWN;
	return found;
}

/* What a reply says about its flow; the entry of the client's side is looked for when needed. */
GLOBAL int NAME(follow_reply)(const struct config *cfg, const struct packet *reply,
				const struct end *vip, __u32 now)
{
	struct packet p = {};
	__u32 slot, word, state;
	FLOW *f;

	if (!cfg || !reply || !vip)
		return 0;
	client_key(reply, vip, &p);
	f = NAME(find)(cfg, flow_hash(cfg, &p, FAMILY), &p, &slot);
	if (!f)
		return 0;
	word = f->word;
	state = FLOW_STATE(word);
	if (reply->proto == IPPROTO_TCP && reply->tcp & TCP_RST)
		change_state(&f->word, slot, word, STATE_RESET);
	else if (reply->proto == IPPROTO_TCP && reply->tcp & TCP_FIN)
		change_state(&f->word, slot, word, state == STATE_FIN ? STATE_CLOSING : STATE_FIN);
	f->seen = now;
	return 1;
}

GLOBAL int NAME(translate_reply)(context *ctx, const struct config *cfg, struct packet *p)
{
	struct bpf_fib_lookup way = {};
	__u32 slot = 0, now;
	struct backend *b;
	struct end vip;
	FLOW *f;
	int result, verdict;

	if (!cfg || !p)
		return PASS;
	f = NAME(find)(cfg, flow_hash(cfg, p, FAMILY), p, &slot);
	if (!f || !(f->word & FLOW_REPLY))
		return PASS;
	b = backend_of(slot);
	if (!b || !vip_end(f->other, &vip))
		return PASS;
	verdict = fib_to(ctx, FAMILY, p->dst, vip.addr, &way, &result);
	if (verdict != WAY_KNOWN)
		return verdict;
	if (result == BPF_FIB_LKUP_RET_SUCCESS && unlikely(on_wire(ctx, p, 0) > way.mtu_result))
		return too_big(ctx, p, FAMILY, way.mtu_result);
	now = jiffies();
	if (quiet(now, f->seen) >= cfg->hz / 2 || p->tcp & (TCP_FIN | TCP_RST)) {
		f->seen = now;
		NAME(follow_reply)(cfg, p, &vip, now);
	}
	count_out(SLOT_INDEX(slot), p->len);
	if (unlikely(p->tcp & TCP_SYN))
		clamp_for(ctx, p, b->service, payload_of(mtu_to(slot), FAMILY));
	if (!rewrite(ctx, p, &vip, FAMILY, SOURCE))
		return drop(REASON_CHECKSUM);
	return send_to_client(ctx, &way, result, FAMILY);
}

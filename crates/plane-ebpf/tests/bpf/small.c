/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Small programs that the tests of the kernel's interface load. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

/* Places in `counts`. */
enum { XDP_RUNS, TC_RUNS, SUM, INTERFACE, PLACES };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct seen {
	__u64 packets;
	__u32 bytes;
	__u32 interface;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct seen);
} lengths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} cpus SEC(".maps");

struct numbers {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__uint(map_flags, BPF_F_INNER_MAP);
	__type(key, __u32);
	__type(value, __u64);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, struct numbers);
} sets SEC(".maps");

/* Set when the programs are loaded. */
const volatile __u32 verdict = XDP_PASS;
/* At least 1: without a call the kernel takes the callback for dead code, and then misses it. */
const volatile __u32 summands = 4;

static __noinline void count(__u32 place)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &place);

	if (value)
		__sync_fetch_and_add(value, 1);
}

struct sum {
	void *numbers;
	__u64 sum;
};

static long add(__u32 index, struct sum *sum)
{
	__u64 *number = bpf_map_lookup_elem(sum->numbers, &index);

	if (!number)
		return 1;
	sum->sum += *number;
	return 0;
}

static __noinline void note(__u32 bytes, __u32 interface)
{
	struct seen first = { .packets = 1, .bytes = bytes, .interface = interface };
	struct seen *seen = bpf_map_lookup_elem(&lengths, &bytes);
	__u32 key = 1, *here = bpf_map_lookup_elem(&cpus, &key);

	if (here)
		*here += 1;
	if (seen)
		__sync_fetch_and_add(&seen->packets, 1);
	else
		bpf_map_update_elem(&lengths, &bytes, &first, BPF_ANY);
}

/* Counts, adds up the numbers of the first set, and writes its mark into the packet. */
SEC("xdp") int plimsoll_t_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	__u32 first = 0, place = SUM;
	struct sum sum = {};
	__u64 *value;

	count(XDP_RUNS);
	note(end - data, ctx->ingress_ifindex);
	sum.numbers = bpf_map_lookup_elem(&sets, &first);
	if (sum.numbers) {
		bpf_loop(summands, add, &sum, 0);
		value = bpf_map_lookup_elem(&counts, &place);
		if (value)
			*value = sum.sum;
	}
	if (verdict == XDP_TX && (void *)(eth + 1) <= end)
		eth->h_dest[0] ^= 0x02;
	return verdict;
}

SEC("classifier") int plimsoll_t_tc(struct __sk_buff *skb)
{
	__u32 place = INTERFACE;
	__u64 *value = bpf_map_lookup_elem(&counts, &place);

	count(TC_RUNS);
	if (value)
		*value = skb->ingress_ifindex;
	skb->mark += 1;
	return TC_ACT_UNSPEC;
}

/* What somebody else might have. */
SEC("xdp") int guest_xdp(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("classifier") int guest_tc(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

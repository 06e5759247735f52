/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM blk_cluster

#if !defined(_BLK_CLUSTER_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _BLK_CLUSTER_TRACE_H

#include <linux/tracepoint.h>
#include "internal.h"

TRACE_EVENT(blk_cluster_lease,
	TP_PROTO(const struct blk_cluster_lease_info *lease),
	TP_ARGS(lease),
	TP_STRUCT__entry(
		__field(u64, epoch)
		__field(u64, instance)
		__field(u64, until)
		__field(u64, hold)
		__field(bool, lapsed)
	),
	TP_fast_assign(
		__entry->epoch = lease->epoch;
		__entry->instance = lease->instance;
		__entry->until = lease->until;
		__entry->hold = lease->hold;
		__entry->lapsed = lease->lapsed;
	),
	TP_printk("epoch %llu instance %llx until %llu hold %llu%s",
		  __entry->epoch, __entry->instance, __entry->until,
		  __entry->hold, __entry->lapsed ? " lapsed" : "")
);

TRACE_EVENT(blk_cluster_refused,
	TP_PROTO(const struct blk_cluster_dev *bcd, int error),
	TP_ARGS(bcd, error),
	TP_STRUCT__entry(
		__string(unit, bcd->unit)
		__field(int, error)
	),
	TP_fast_assign(
		__assign_str(unit);
		__entry->error = error;
	),
	TP_printk("%s error %d", __get_str(unit), __entry->error)
);

TRACE_EVENT(blk_cluster_event_raised,
	TP_PROTO(u64 id, const struct blk_cluster_dev *bcd, u32 kind),
	TP_ARGS(id, bcd, kind),
	TP_STRUCT__entry(
		__field(u64, id)
		__string(unit, bcd->unit)
		__field(u32, kind)
	),
	TP_fast_assign(
		__entry->id = id;
		__assign_str(unit);
		__entry->kind = kind;
	),
	TP_printk("event %llu %s kind %u", __entry->id, __get_str(unit),
		  __entry->kind)
);

TRACE_EVENT(blk_cluster_event_ended,
	TP_PROTO(u64 id, u32 outcome, u64 ns),
	TP_ARGS(id, outcome, ns),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(u32, outcome)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->outcome = outcome;
		__entry->ns = ns;
	),
	TP_printk("event %llu outcome %u after %llu ns", __entry->id,
		  __entry->outcome, __entry->ns)
);

TRACE_EVENT(blk_cluster_applied,
	TP_PROTO(u64 id, u32 kind, int error),
	TP_ARGS(id, kind, error),
	TP_STRUCT__entry(
		__field(u64, id)
		__field(u32, kind)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->kind = kind;
		__entry->error = error;
	),
	TP_printk("task %llu kind %u error %d", __entry->id, __entry->kind,
		  __entry->error)
);

#endif /* _BLK_CLUSTER_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>

"""Decodes a Perfetto trace with the public definitions, checks what every trace must keep, and says what is in it as JSON.

    python check.py FILE

Needs the package `perfetto` of PyPI, of which it uses the protobuf definitions only.
"""

import json
import sys
from collections import Counter, defaultdict

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as definitions

CLEARED = definitions.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
NEEDS = definitions.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
MONOTONIC = definitions.BUILTIN_CLOCK_MONOTONIC
Event = definitions.TrackEvent


def fail(why):
    sys.exit(f"{sys.argv[1]}: {why}")


def no_unknown_fields(trace):
    """Everything that was written has a meaning there."""
    whole = trace.ByteSize()
    trace.DiscardUnknownFields()
    if without := whole - trace.ByteSize():
        fail(f"{without} bytes are fields that the definitions do not know")


class Tables:
    """What the packets of a sequence refer to by number."""

    def __init__(self):
        self.tables = defaultdict(dict)
        self.clock = None

    def add(self, data):
        for field, entries in data.ListFields():
            for entry in entries:
                if entry.iid in self.tables[field.name]:
                    fail(f"{field.name} {entry.iid} is defined twice")
                self.tables[field.name][entry.iid] = entry

    def get(self, table, iid):
        if iid not in self.tables[table]:
            fail(f"{table} {iid} is used before it is defined")
        return self.tables[table][iid]


def main():
    trace = definitions.Trace()
    with open(sys.argv[1], "rb") as file:
        trace.ParseFromString(file.read())
    no_unknown_fields(trace)
    sequences = {}
    tracks, open_slices, last, last_on = {}, defaultdict(list), 0, defaultdict(int)
    flows = {}
    slices, instants, stacks, counters = Counter(), Counter(), Counter(), defaultdict(list)
    for packet in trace.packet:
        sequence = packet.trusted_packet_sequence_id
        if sequence == 0:
            fail("a packet is on no sequence")
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            if track.HasField("parent_uuid") and track.parent_uuid not in tracks:
                fail(f"track {track.name} is below one that is not described")
            tracks[track.uuid] = track
        if packet.HasField("clock_snapshot"):
            clocks = {clock.clock_id for clock in packet.clock_snapshot.clocks}
            if MONOTONIC not in clocks or packet.clock_snapshot.primary_trace_clock != MONOTONIC:
                fail("the clocks do not say which one is the trace's")
        if packet.sequence_flags & CLEARED:
            sequences[sequence] = Tables()
            sequences[sequence].clock = packet.trace_packet_defaults.timestamp_clock_id
        if not packet.HasField("track_event"):
            continue
        if not packet.sequence_flags & NEEDS or sequence not in sequences:
            fail("an event is not marked as one that needs the tables")
        tables = sequences[sequence]
        tables.add(packet.interned_data)
        if tables.clock != MONOTONIC:
            fail("an event has no clock")
        event, time = packet.track_event, packet.timestamp
        uuid = event.track_uuid
        if uuid not in tracks:
            fail(f"an event is on track {uuid}, which is not described")
        if time < last or time < last_on[uuid]:
            fail(f"time goes back from {last} to {time}")
        last = last_on[uuid] = time
        name = tables.get("event_names", event.name_iid).name if event.HasField("name_iid") else None
        for iid in event.category_iids:
            tables.get("event_categories", iid)
        for note in event.debug_annotations:
            tables.get("debug_annotation_names", note.name_iid)
        leaf = None
        if event.HasField("callstack_iid"):
            for iid in tables.get("callstacks", event.callstack_iid).frame_ids:
                frame = tables.get("frames", iid)
                tables.get("mappings", frame.mapping_id)
                tables.get("source_paths", frame.source_path_iid)
                leaf = tables.get("function_names", frame.function_name_id).str.decode()
        if event.type == Event.TYPE_SLICE_BEGIN:
            open_slices[uuid].append((name, time))
            slices[name] += 1
        elif event.type == Event.TYPE_SLICE_END:
            if not open_slices[uuid]:
                fail(f"a slice ends on {tracks[uuid].name} that has not begun")
            open_slices[uuid].pop()
        elif event.type == Event.TYPE_INSTANT:
            instants[name] += 1
        elif event.type == Event.TYPE_COUNTER:
            if not tracks[uuid].HasField("counter"):
                fail("a value is on a track that is no counter")
            counters[tracks[uuid].name].append(event.counter_value)
        else:
            fail(f"an event of type {event.type}")
        if leaf is not None:
            stacks[f"{name}: {leaf}"] += 1
        for flow in event.flow_ids:
            if flow in flows:
                fail(f"arrow {flow} begins twice")
            flows[flow] = None
        for flow in event.terminating_flow_ids:
            if flows.get(flow, time) is not None:
                fail(f"arrow {flow} ends without a beginning, or twice")
            flows[flow] = time
    for uuid, still in open_slices.items():
        if still:
            fail(f"on {tracks[uuid].name} {still} do not end")
    if unmatched := [flow for flow, end in flows.items() if end is None]:
        fail(f"{len(unmatched)} arrows do not end")
    named = [track.name for track in tracks.values()]
    parents = Counter(tracks[track.parent_uuid].name for track in tracks.values() if track.HasField("parent_uuid"))
    print(
        json.dumps(
            {
                "packets": len(trace.packet),
                "flows": len(flows),
                "tasks": parents["tasks"],
                "processors": parents["processors"],
                "user_tasks": parents["user tasks"],
                "threads": [t.thread.thread_name for t in tracks.values() if t.HasField("thread")],
                "tracks": named,
                "slices": slices,
                "instants": instants,
                "stacks": stacks,
                "counters": {name: [min(values), max(values)] for name, values in counters.items()},
            }
        )
    )


main()

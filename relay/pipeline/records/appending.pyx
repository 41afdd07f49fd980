# cython: boundscheck=False, wraparound=False, cdivision=True
"""Append records to the batches of the sinks that take them: the inner loops of logs and traces.

What is known of a resource and scope is looked up by the bytes of their heads. All else is left to
:class:`~relay.pipeline.records.unknown_heads.UnknownHeads`. A batch is also full at
:data:`BATCH_BYTES_MAX` bytes, heads included, so that encoding and compressing it never holds the
event loop.
"""

from relay.codec.otlp.batch cimport OpenBatch
from relay.codec.otlp.envelope cimport Envelope
from relay.codec.otlp.record_buffer cimport RecordBuffer, RecordGroup
from relay.codec.otlp.record_fields cimport without_severity
from relay.pipeline.batching.batch_bytes cimport BATCH_BYTES_MAX
from relay.pipeline.batching.transaction cimport BatchTransaction
from relay.pipeline.records.entries cimport RecordPlan, ResourceEntry, ScopeEntry

cdef enum:
    STEP = 32  # scopes of a microsecond or two between two pauses
    SAMPLED_MAX = 2  # log records of a scope whose severity is looked at for previews


def append_envelope(
    unknown, Envelope envelope not None, BatchTransaction transaction not None, origin,
    table, inventory, bint has_severities, list counts not None,
):
    """Append a request's records; return how many no source takes.

    ``counts`` gets the plans of those that were appended, with the number of records. Resources and
    scopes that ``table`` does not know, and plans that are not valid with ``inventory``, come from
    ``unknown``, which also counts records without a project and looks at single ones.
    """
    cdef object pause = transaction.pace.pause
    cdef dict young = table.young(origin)
    cdef list resources = envelope.resources, scopes
    cdef ResourceEntry resource
    cdef ScopeEntry scope
    cdef RecordPlan plan, last = None
    cdef bytes head
    cdef Py_ssize_t first, stop, number, steps = 0, unmatched = 0, pending = 0
    resources.reverse()
    while resources:  # freed one by one: all at once would take too long
        head, scopes = resources.pop()
        scopes.reverse()
        steps += 1
        if not steps % STEP:
            pause()
        resource = young.get(head)
        if resource is None:
            pause()
            resource = unknown.resource(head)
            young = table.young(origin)
        if resource.project is None:
            while scopes:
                _, first, stop = scopes.pop()
                unknown.count_no_tenant(resource, stop - first)
            continue
        while scopes:
            head, first, stop = scopes.pop()
            steps += 1
            if not steps % STEP:
                pause()
            scope = resource.scopes.get(head)
            if scope is None or scope.plan is None or not scope.plan.is_valid(inventory):
                pause()
                scope = unknown.scope(resource, head)
                young = table.young(origin)
            plan = scope.plan
            resource.records += stop - first
            if has_severities:
                resource.sampled += min(stop - first, <Py_ssize_t>SAMPLED_MAX)
                resource.without_severity += without_severity(envelope, first, stop, SAMPLED_MAX)
            if plan.has_tests:
                unmatched += unknown.test(first, stop, scope)
                continue
            if not plan.takes:
                unmatched += stop - first
                continue
            if plan is not last:
                if pending:
                    counts.append((last, pending))
                last = plan
                pending = 0
            pending += stop - first
            number = 0
            for target in plan.targets:
                number += 1
                if not number % STEP:
                    pause()
                append_records(transaction, target, scope.group, envelope, first, stop)
    if pending:
        counts.append((last, pending))
    return unmatched


cpdef append_records(
    BatchTransaction transaction, target, RecordGroup group, Envelope envelope,
    Py_ssize_t first, Py_ssize_t stop,
):
    """Append a row of records to the batch of their resource's shard; seal full batches."""
    cdef tuple shards = target.shards
    cdef OpenBatch batch = shards[group.shard_key % len(shards)]
    cdef RecordBuffer records
    cdef Py_ssize_t end, room
    while first < stop:
        if batch.group is not group:
            transaction.begin_run(batch, group)
            (<RecordBuffer?>batch.point_buffer).note_heads(group)
        records = <RecordBuffer>batch.point_buffer
        end = min(stop, first + <Py_ssize_t>(batch.limit - batch.count))
        room = BATCH_BYTES_MAX - records.size - records.finished
        if envelope.records[end - 1].end - envelope.records[first].start > room:
            end = first + 1
            while end < stop and envelope.records[end].end - envelope.records[first].start <= room:
                end += 1
        records.append(envelope, first, end)
        batch.count += end - first
        first = end
        if batch.count == batch.limit or records.size + records.finished >= BATCH_BYTES_MAX:
            transaction.seal(batch)


def append_rewritten(
    BatchTransaction transaction not None, target, RecordGroup group not None,
    bytes record not None,
):
    """Append one record that was encoded anew, with its tag and length."""
    cdef tuple shards = target.shards
    cdef OpenBatch batch = shards[group.shard_key % len(shards)]
    cdef RecordBuffer records
    if batch.group is not group:
        transaction.begin_run(batch, group)
        (<RecordBuffer?>batch.point_buffer).note_heads(group)
    records = <RecordBuffer>batch.point_buffer
    records.append_bytes(record, 1)
    batch.count += 1
    if batch.count == batch.limit or records.size + records.finished >= BATCH_BYTES_MAX:
        transaction.seal(batch)

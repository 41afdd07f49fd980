# cython: boundscheck=False, wraparound=False, cdivision=True
"""Append records to the batches of the sinks that take them: the inner loops of logs and traces.

A resource is compared with the one that the last request had in its place, a scope with the last
one of its resource; others are looked up by the bytes of their heads. Those not known are left to
:class:`~relay.pipeline.records.unknown_heads.UnknownHeads`. A batch is also full at
:data:`BATCH_BYTES_MAX` bytes, heads included, so that encoding and compressing it never holds the
event loop.
"""

from libc.stdint cimport uint32_t, uint64_t

from relay.codec.otlp.batch cimport OpenBatch
from relay.codec.otlp.envelope cimport Envelope, Part
from relay.codec.otlp.record_buffer cimport RecordBuffer, RecordGroup
from relay.codec.otlp.record_fields cimport without_severity
from relay.pipeline.batching.batch_bytes cimport BATCH_BYTES_MAX
from relay.pipeline.batching.transaction cimport BatchTransaction
from relay.pipeline.records.entries cimport (
    KnownResources,
    RecordPlan,
    ResourceEntry,
    ScopeEntry,
)
from relay.pipeline.records.results cimport RequestCounts

cdef enum:
    ENTRIES = 256  # resources that are counted between two pauses
    STEP = 32  # scopes of a microsecond or two between two pauses
    STEP_BYTES = 1 << 20  # copied between two pauses: half a millisecond
    LOOKED_MAX = 1_000  # first log records of a resource whose severity is looked at for previews
    SAMPLED_MAX = 2  # the same of a scope, from then on
    SPREAD_TURN = 2_654_435_761  # primes of xxHash: their multiples spread evenly in 32 bits
    SPREAD_PART = 2_246_822_519


def append_envelope(
    reader, Envelope envelope not None, BatchTransaction transaction not None, origin, inventory,
    bint has_severities, RequestCounts counts not None,
):
    """Append a request's records; ``counts`` gets what came of them.

    Resources and scopes that the reader's table does not know, and plans that are not valid with
    ``inventory``, come from ``reader.unknown``, which is made for the first of them; it also counts
    records without a project and looks at single ones.
    """
    cdef object pause = transaction.pace.pause
    cdef object table = reader.table, unknown = None
    cdef KnownResources young = table.young(origin)
    cdef list plans = counts.plans, seen = counts.resources
    cdef ResourceEntry resource, before = None
    cdef ScopeEntry scope
    cdef RecordPlan plan, last = None
    cdef Part *part
    cdef Part *inner
    cdef Py_ssize_t first, stop, number, at, targets, steps = 0
    cdef Py_ssize_t size, copied = 0
    cdef Py_ssize_t unmatched = 0, pending = 0
    for number in range(envelope.resource_parts.count):
        part = &envelope.resource_parts.items[number]
        steps += 1
        if not steps % STEP:
            pause()
        resource = expected(young, before, envelope, part)
        if resource is None:
            resource = young.by_head.get(envelope.head_of(part))
            if resource is None:
                pause()
                if unknown is None:
                    unknown = reader.unknown(envelope, transaction, origin, counts)
                resource = unknown.resource(envelope.head_of(part))
                young = table.young(origin)
            if before is None:
                young.first = resource.place
            else:
                before.follower = resource.place
        before = resource
        seen.append(resource)
        if resource.project is None:
            if unknown is None:
                unknown = reader.unknown(envelope, transaction, origin, counts)
            for at in range(part.first, part.stop):
                inner = &envelope.scope_parts.items[at]
                unknown.count_no_tenant(resource, inner.stop - inner.first)
            continue
        for at in range(part.first, part.stop):
            inner = &envelope.scope_parts.items[at]
            first, stop = inner.first, inner.stop
            steps += 1
            if not steps % STEP:
                pause()
            scope = resource.recent
            if scope is None or not envelope.has_head(inner, scope.group.scope):
                scope = resource.scopes.get(envelope.head_of(inner))
                if scope is not None:
                    resource.recent = scope
            if scope is None or scope.plan is None or not scope.plan.is_valid(inventory):
                pause()
                if unknown is None:
                    unknown = reader.unknown(envelope, transaction, origin, counts)
                scope = unknown.scope(resource, envelope.head_of(inner))
                young = table.young(origin)
            plan = scope.plan
            if has_severities:
                look_at_severities(resource, envelope, first, stop, pause)
            if plan.has_tests:
                if unknown is None:
                    unknown = reader.unknown(envelope, transaction, origin, counts)
                unmatched += unknown.test(first, stop, scope)
                continue
            if not plan.takes:
                unmatched += stop - first
                continue
            if plan is not last:
                if pending:
                    plans.append((last, pending))
                last = plan
                pending = 0
            pending += stop - first
            targets = 0
            size = envelope.records[stop - 1].end - envelope.records[first].start
            for target in plan.targets:
                targets += 1
                copied += size
                if copied > STEP_BYTES or not targets % STEP:
                    copied = 0
                    pause()
                append_records(transaction, target, scope.group, envelope, first, stop)
    if pending:
        plans.append((last, pending))
    counts.unmatched += unmatched


def count_resources(Envelope envelope not None, list resources not None, pause):
    """Count the records of each resource of a request that was taken, those with a project."""
    cdef Py_ssize_t number
    cdef ResourceEntry resource
    cdef Part *part
    cdef Part *scopes = envelope.scope_parts.items
    assert len(resources) == envelope.resource_parts.count
    for number in range(envelope.resource_parts.count):
        if number and not number % ENTRIES:
            pause()
        resource = <ResourceEntry>resources[number]
        if resource.project is not None:
            # Records of a resource's scopes follow each other, and it has one scope at least.
            part = &envelope.resource_parts.items[number]
            resource.records += scopes[part.stop - 1].stop - scopes[part.first].first


cdef int look_at_severities(
    ResourceEntry resource, Envelope envelope, Py_ssize_t first, Py_ssize_t stop, pause
) except -1:
    """Count log records without a severity number, of some that are spread over the row.

    Each is looked at of a resource's first ones. Later ones are from changing places, as senders
    repeat the order of their records.
    """
    cdef Py_ssize_t count = stop - first, begin = 0, end, at, turn, number, looked, found = 0
    looked = min(count, max(<Py_ssize_t>SAMPLED_MAX, LOOKED_MAX - <Py_ssize_t>resource.sampled))
    if looked == count:
        found = without_severity(envelope, first, stop, pause)
    else:
        # One of each of so many parts; as these are not all of a size, they begin anywhere.
        turn = spread(resource.sampled, SPREAD_TURN, count)
        for number in range(looked):
            end = count * (number + 1) // looked
            at = begin + spread(resource.sampled + number, SPREAD_PART, end - begin)
            at = first + (turn + at) % count
            found += without_severity(envelope, at, at + 1, pause)
            if number % STEP == STEP - 1:
                pause()
            begin = end
    # Both at once: a pause may end the request, which then comes again.
    resource.without_severity += found
    resource.sampled += looked
    return 0


cdef inline Py_ssize_t spread(long long number, uint64_t prime, Py_ssize_t below) noexcept:
    """Return one of the numbers from 0 on; following ``number`` lead all over them."""
    return <Py_ssize_t>(<uint64_t><uint32_t>(<uint64_t>number * prime) * <uint64_t>below >> 32)


cdef ResourceEntry expected(
    KnownResources known, ResourceEntry before, Envelope envelope, Part *part
):
    """Return the resource that followed ``before`` in the last request, if its head is this one."""
    cdef Py_ssize_t place = known.first if before is None else before.follower
    cdef ResourceEntry entry
    if not 0 <= place < len(known.order):
        return None
    entry = <ResourceEntry>known.order[place]
    return entry if envelope.has_head(part, entry.head) else None


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

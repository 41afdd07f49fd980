# A run of samples of known series in the order of last time: the part of v1_loop.pyx that reads
# nothing else. It takes borrowed pointers: nothing that it calls may change a series.
#
# Read once for the run: the time (those of a target have one), the match set, and the batches with
# the end of their arrays. The batches' counts are written back when the run ends.
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from relay.codec.otlp.batch cimport OpenBatch
from relay.codec.otlp.point_buffer cimport TAIL_BYTES, Point, PointBuffer, Run
from relay.codec.remote_write.common_sample cimport (
    SERIES_TAG, TIME_BYTES, VALUE_BYTES, usual_time,
)
from relay.codec.prefetch cimport HEADER_BYTES, LINE, prefetch
from relay.pipeline.metrics.series.series cimport Series


cdef enum:
    BATCHES_MAX = 8  # of a series
    ROOM_UNUSED = 1 << 30  # of no batch
    FAR = 4  # samples ahead of which a series is prefetched,
    NEAR = 2  # and what it refers to,
    KEY_LINES_MAX = 8  # at most so much of its key


cdef struct BatchAppender:  # appends behind the end of a batch
    void *batch  # OpenBatch
    void *group  # of the points behind the last run
    Point *point  # the next one
    Run *run  # likewise
    Point *points  # the first one
    Py_ssize_t size  # bytes of all points


cdef struct KnownRun:
    # Given: the series before, its match set, and the request.
    void *last
    void *match_set
    long long generation
    long long request
    uint64_t latest_ns
    uint64_t stale  # bits of the value that takes another prefix
    # Found: samples that were appended, and the first that was not if its series was recognised.
    Py_ssize_t samples
    void *series
    uint64_t time_ns
    uint64_t value
    # The time that was read last, as it stands in a body, and in ns.
    uint64_t time_bits  # seven bytes
    uint64_t known_ns
    Py_ssize_t count  # of the appenders in use
    BatchAppender appenders[BATCHES_MAX]


cdef inline Py_ssize_t open_appenders(KnownRun *run, void *batches) except -1:
    """Open an appender of each batch; return the number of points that each has room for.

    Return 0 where the caller is to append in the general way: to more batches than there are
    appenders, to one that the request has not written to yet or that the next point fills, or to
    one that is there twice.
    """
    cdef Py_ssize_t at, before, room = ROOM_UNUSED
    cdef void *batch
    cdef void *buffer
    cdef BatchAppender *appender
    run.count = 0
    if batches == <void *>None:
        return room
    if PyTuple_GET_SIZE(<tuple>batches) > BATCHES_MAX:
        return 0
    for at in range(PyTuple_GET_SIZE(<tuple>batches)):
        batch = <void *>PyTuple_GET_ITEM(<tuple>batches, at)
        buffer = <void *>(<OpenBatch>batch).point_buffer
        if (
            (<OpenBatch>batch).last_writer_offset != run.request
            or <void *>(<OpenBatch>batch).group == <void *>None
            or not (<OpenBatch>batch).count
        ):
            return 0
        # Two sources may put a series into one batch twice, which one appender cannot tell.
        for before in range(at):
            if run.appenders[before].batch == batch:
                return 0
        if (<PointBuffer>buffer).count == (<PointBuffer>buffer).capacity:
            (<PointBuffer>buffer).grow()
        if (<PointBuffer>buffer).runs_count == (<PointBuffer>buffer).runs_capacity:
            (<PointBuffer>buffer).grow_runs()
        # A point ends at most one run.
        room = min(
            room,
            (<OpenBatch>batch).limit - 1 - (<OpenBatch>batch).count,
            (<PointBuffer>buffer).capacity - (<PointBuffer>buffer).count,
            (<PointBuffer>buffer).runs_capacity - (<PointBuffer>buffer).runs_count,
        )
        appender = &run.appenders[at]
        appender.batch = batch
        appender.group = <void *>(<OpenBatch>batch).group
        appender.points = (<PointBuffer>buffer).points
        appender.point = appender.points + (<PointBuffer>buffer).count
        appender.run = (<PointBuffer>buffer).runs + (<PointBuffer>buffer).runs_count
        appender.size = (<PointBuffer>buffer).size
    if room:
        run.count = PyTuple_GET_SIZE(<tuple>batches)
    return room


cdef inline void close_appenders(KnownRun *run) noexcept:
    """Write back to the batches what was appended to them."""
    cdef Py_ssize_t at, added
    cdef void *batch
    cdef void *buffer
    cdef BatchAppender *appender
    for at in range(run.count):
        appender = &run.appenders[at]
        batch = appender.batch
        buffer = <void *>(<OpenBatch>batch).point_buffer
        added = appender.point - appender.points - (<PointBuffer>buffer).count
        (<PointBuffer>buffer).count += added
        (<PointBuffer>buffer).size = appender.size
        (<PointBuffer>buffer).runs_count = appender.run - (<PointBuffer>buffer).runs
        (<OpenBatch>batch).count += added
        if <void *>(<OpenBatch>batch).group != appender.group:
            (<OpenBatch>batch).group = <object>appender.group
    run.count = 0


cdef inline void put_point(
    BatchAppender *appender, void *group, void *head, uint64_t time_ns, uint64_t value
) noexcept:
    cdef Run *run
    cdef Point *point = appender.point
    if appender.group != group:
        run = appender.run
        Py_INCREF(<object>appender.group)
        run.group = appender.group
        run.end = point - appender.points
        run.size = appender.size
        appender.run = run + 1
        appender.group = group
    Py_INCREF(<object>head)
    point.head = head
    point.time_ns = time_ns
    point.value = value
    appender.point = point + 1
    appender.size += PyBytes_GET_SIZE(<object>head) + TAIL_BYTES


cdef inline void *following(void *series) noexcept:
    """Return the series that is predicted behind another; the other where none is."""
    cdef void *found = <void *>(<Series>series).predicted_next
    return series if found == <void *>None else found


cdef inline const unsigned char *take_known_run(
    KnownRun *run, const unsigned char *at, const unsigned char *stop, const unsigned char *end
) except NULL:
    """Append samples of the series that are predicted; return where the first other stands.

    That is behind it where its series was recognised (``run.series``) and only something about its
    point is unusual. A byte behind ``end`` can be read, and is 0.
    """
    cdef const unsigned char *start
    cdef const unsigned char *tail
    cdef void *last = run.last
    cdef void *series
    cdef void *key
    cdef void *group
    cdef void *prefix
    cdef void *near = last
    cdef void *far
    cdef void *batches = NULL
    cdef Py_ssize_t size, rest, number, _number, more = 0, room = 0, samples = 0
    cdef Py_ssize_t lines = 4  # of a key; those of a target are about as long
    cdef uint64_t time_bits = run.time_bits, time_ns = run.known_ns, bits = 0, found = 0, value = 0
    cdef uint32_t head = 0
    for _number in range(NEAR):
        near = following(near)
    far = near
    for _number in range(FAR - NEAR):
        far = following(far)
    run.series = NULL
    run.count = 0
    while at < stop and at[0] == SERIES_TAG:
        series = <void *>(<Series>last).predicted_next
        if series == <void *>None:
            break
        far = following(far)
        prefetch(far)
        prefetch(<char *>far + LINE)
        near = following(near)
        prefetch(<void *>(<Series>near).prefix)
        prefetch(<void *>(<Series>near).group)
        # A borrowed pointer: counting a reference would read the key, which is in no cache.
        key = <void *>(<Series>near).key
        for number in range(lines):
            prefetch(<char *>key + number * LINE)
        size = at[1]
        start = at + 2
        if size > 127:
            if at[2] > 127:
                break
            size += (<Py_ssize_t>at[2] << 7) - 128
            start += 1
        if size > end - start:
            break
        key = <void *>(<Series>series).key
        rest = size - PyBytes_GET_SIZE(<object>key)
        tail = start + size
        if rest == VALUE_BYTES:
            memcpy(&head, tail - VALUE_BYTES, 4)
            if (head & 0xFFFFFF) != 0x091012:  # a sample of 16 bytes, its value
                break
            memcpy(&value, tail - VALUE_BYTES + 3, 8)
        elif rest == TIME_BYTES:
            if tail[-TIME_BYTES] != 0x12 or tail[1 - TIME_BYTES] != 0x07:
                break
            value = 0
        else:
            break
        # The last seven bytes of both: the time with its tag.
        memcpy(&bits, tail - 8, 8)
        if bits >> 8 != time_bits:
            found = usual_time(tail - 6)
            if not found or tail[-7] != 0x10 or found > run.latest_ns:
                break
            time_bits = bits >> 8
            time_ns = found
        if memcmp(start, PyBytes_AS_STRING(<object>key), <size_t>(size - rest)) or (
            (<Series>series).generation != run.generation
        ):
            break
        last = series
        at = tail
        lines = min(KEY_LINES_MAX, (size + HEADER_BYTES) // LINE + 1)
        if not room or <void *>(<Series>series).batches != batches:
            close_appenders(run)
            batches = <void *>(<Series>series).batches
            room = open_appenders(run, batches)
            more = run.count - 1
        if (
            not room
            or <void *>(<Series>series).match_set != run.match_set
            or value == run.stale
            or <void *>(<Series>series).uncommon != <void *>None
        ):
            run.series = series
            run.time_ns = time_ns
            run.value = value
            break
        room -= 1
        samples += 1
        if more < 0:
            continue
        group = <void *>(<Series>series).group
        prefix = <void *>(<Series>series).prefix
        put_point(&run.appenders[0], group, prefix, time_ns, value)
        if more:
            for number in range(more):
                put_point(&run.appenders[1 + number], group, prefix, time_ns, value)
    close_appenders(run)
    run.last = last
    run.time_bits = time_bits
    run.known_ns = time_ns
    run.samples = samples
    return at

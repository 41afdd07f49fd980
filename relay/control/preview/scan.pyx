# cython: boundscheck=False, wraparound=False, cdivision=True
"""Count the series that a question's selections match, in slices.

* A :class:`NamePlan` is made once for each metric name: what the name alone decides, and the labels
  on which the rest depends. Its answers are cached by the values of these labels, read from the
  key's bytes without parsing the others.
* Bit ``n`` of a mask stands for selection ``n`` of the question.
* Counting never changes the table. Forgotten series match nothing.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint64_t
from libc.string cimport memcmp
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from relay.codec.remote_write.label_spans cimport SPANS_MAX, Span, spans_of
from relay.codec.prefetch cimport LINE, prefetch
from relay.pipeline.metrics.series.series cimport Series

cdef enum:
    SELECTIONS_MAX = 63
    CLOCK_EVERY = 64  # series between two looks at the clock: some 20 us
    AHEAD = 8  # series whose memory is requested before they are read

ANSWERS_MAX = 65_536
NAMES_MAX = 100_000
FIRST_MAX = 20
SAMPLED_MAX = 200


cdef double now_s() noexcept:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return <double>at.tv_sec + <double>at.tv_nsec * 1e-9


cdef inline object value_of(
    bytes name, const char *data, const Span *spans, Py_ssize_t count
):
    """Return the value of a label, encoded; None if it is missing."""
    cdef Py_ssize_t at, size = PyBytes_GET_SIZE(name)
    cdef const char *wanted = PyBytes_AS_STRING(name)
    for at in range(count):
        if (
            spans[at].name_size == size
            and data[spans[at].name] == wanted[0]
            and not memcmp(data + spans[at].name, wanted, <size_t>size)
        ):
            return PyBytes_FromStringAndSize(data + spans[at].value, spans[at].value_size)
    return None


cdef class NamePlan:
    """The conditions for the series of one metric name.

    ``decided``: mask of selections that match whatever the labels are. ``labels``: names, encoded,
    of the labels that the others read. ``answer``: called with their values (None: missing) and the
    key, returns the whole mask; its answers are cached unless ``cached`` is False.
    """

    cdef readonly uint64_t decided
    cdef readonly tuple labels
    cdef readonly bint cached
    cdef object answer
    cdef dict answers
    cdef readonly dict counts
    cdef uint64_t last_mask
    cdef Py_ssize_t last_count

    def __init__(self, uint64_t decided, tuple labels=(), answer=None, *, bint cached=True):
        self.decided = decided
        self.labels = labels
        self.answer = answer
        self.cached = cached
        self.answers = {}
        self.counts = {}

    cdef inline void count(self, uint64_t mask):
        if mask != self.last_mask:
            self.flush()
            self.last_mask = mask
        self.last_count += 1

    cdef flush(self):
        if self.last_count:
            self.counts[self.last_mask] = self.counts.get(self.last_mask, 0) + self.last_count
            self.last_count = 0

    def total(self):
        """Return the number of series by mask; without those that nothing matches."""
        self.flush()
        return self.counts


cdef class SelectedSeries:
    """Series of one selection: the first ones by name and label bytes, and a random sample."""

    cdef list found
    cdef str last_name
    cdef bytes last_key
    cdef readonly list sampled
    cdef readonly Py_ssize_t count
    cdef uint64_t random

    def __init__(self, uint64_t seed):
        self.found = []
        self.sampled = []
        self.random = seed | 1

    cdef add(self, Series series):
        cdef uint64_t at
        self.count += 1
        if (
            len(self.found) < FIRST_MAX
            or series.name < self.last_name
            or (series.name == self.last_name and series.key < self.last_key)
        ):
            self.found.append((series.name, series.key))
            self.found.sort()
            del self.found[FIRST_MAX:]
            self.last_name, self.last_key = self.found[len(self.found) - 1]
        if series.info_claim is not None:
            return  # always looked up, so that its arrivals cannot be told
        if len(self.sampled) < SAMPLED_MAX:
            self.sampled.append(series)
            return
        # xorshift64 (Marsaglia); reservoir sampling, algorithm R.
        self.random ^= self.random << 13
        self.random ^= self.random >> 7
        self.random ^= self.random << 17
        at = self.random % <uint64_t>self.count
        if at < SAMPLED_MAX:
            self.sampled[at] = series

    @property
    def first(self):
        """Names and keys of the first series, in their order."""
        return tuple(self.found)


cdef class SeriesScan:
    """Counts of one question.

    ``types``: the metric types of the project, by which its series are recognised. ``plan``: called
    with a metric name, returns its :class:`NamePlan`. ``lists``: for each group of selections that
    is listed, (mask of which one must match, mask of which none may). ``seed`` is that of samples;
    ``names_max`` names are counted one by one.
    ``read``: called with a key that is not in canonical form and the names of labels, returns
    their values.
    """

    cdef object types
    cdef object plan
    cdef object read
    cdef dict plans
    cdef readonly NamePlan others
    cdef readonly tuple selected
    cdef uint64_t[SELECTIONS_MAX] any_of
    cdef uint64_t[SELECTIONS_MAX] none_of
    cdef Py_ssize_t lists
    cdef Py_ssize_t names_max
    cdef Py_ssize_t answers
    cdef readonly Py_ssize_t seen
    cdef readonly Py_ssize_t unnamed

    def __init__(
        self, types, plan, read, tuple lists, *, uint64_t seed, Py_ssize_t names_max
    ):
        assert len(lists) <= SELECTIONS_MAX
        self.types = types
        self.plan = plan
        self.read = read
        self.plans = {}
        self.others = NamePlan(0)
        self.lists = len(lists)
        self.names_max = names_max
        for at in range(self.lists):
            self.any_of[at], self.none_of[at] = lists[at]
        self.selected = tuple([SelectedSeries(seed + 2 * at) for at in range(self.lists)])

    def run(self, list series not None, Py_ssize_t start, double seconds):
        """Look at the series from ``start`` on for some time; return where to go on."""
        cdef Py_ssize_t at = start, stop = len(series), check = start + CLOCK_EVERY
        cdef double end = now_s() + seconds
        cdef Series one
        cdef uint64_t mask
        cdef NamePlan plan
        cdef bint named
        cdef const void *key
        while at < stop:
            if at + AHEAD < stop:
                prefetch(<void *>PyList_GET_ITEM(series, at + AHEAD))
                prefetch(<const char *><void *>PyList_GET_ITEM(series, at + AHEAD) + 2 * LINE)
                key = <void *>(<Series>PyList_GET_ITEM(series, at + AHEAD // 2)).key
                prefetch(key)
                prefetch(<const char *>key + LINE)
                prefetch(<const char *>key + 2 * LINE)
                prefetch(<const char *>key + 3 * LINE)
            if at >= check:
                check = at + CLOCK_EVERY
                if now_s() >= end:
                    break
            one = <Series>PyList_GET_ITEM(series, at)
            at += 1
            if one.types is not self.types:
                continue  # another project's, faulty, or forgotten
            self.seen += 1
            plan = <NamePlan>self.plans.get(one.name)
            named = True
            if plan is None:
                plan = <NamePlan?>self.plan(one.name)
                named = len(self.plans) < self.names_max
                if named:
                    self.plans[one.name] = plan
                check -= CLOCK_EVERY // 8
            mask = plan.decided
            if plan.answer is not None:
                mask = self.ask(plan, one, &check)
            if mask:
                if named:
                    plan.count(mask)
                else:
                    self.others.count(mask)
                    self.unnamed += 1
                self.list_series(mask, one)
        return at

    cdef uint64_t ask(self, NamePlan plan, Series series, Py_ssize_t *check) except? 0:
        cdef object values = self.values(plan.labels, series.key)
        cdef object known
        cdef uint64_t mask
        if plan.cached:
            known = plan.answers.get(values)
            if known is not None:
                return <uint64_t>known
        mask = <uint64_t>plan.answer(
            values if PyTuple_GET_SIZE(plan.labels) != 1 else (values,), series.key
        )
        check[0] -= CLOCK_EVERY // 8  # dearer than a known one
        if plan.cached:
            if self.answers >= ANSWERS_MAX:
                self.answers = 0
                for other in self.plans.values():
                    (<NamePlan>other).answers.clear()
            plan.answers[values] = mask
            self.answers += 1
        return mask

    cdef object values(self, tuple names, bytes key):
        """Return the values of labels, None for missing ones, encoded; of a single one its value.
        """
        cdef Span[SPANS_MAX] spans
        cdef const char *data = PyBytes_AS_STRING(key)
        cdef Py_ssize_t count, wanted, size = PyTuple_GET_SIZE(names)
        cdef tuple found
        cdef object value
        if not size:
            return None
        count = spans_of(<const unsigned char *>data, PyBytes_GET_SIZE(key), spans)
        if count < 0:
            found = self.read(key, names)
            return found[0] if size == 1 else found
        if size == 1:
            return value_of(<bytes>PyTuple_GET_ITEM(names, 0), data, spans, count)
        found = PyTuple_New(size)
        for wanted in range(size):
            value = value_of(<bytes>PyTuple_GET_ITEM(names, wanted), data, spans, count)
            Py_INCREF(value)
            PyTuple_SET_ITEM(found, wanted, value)
        return found

    cdef int list_series(self, uint64_t mask, Series series) except -1:
        cdef Py_ssize_t at
        for at in range(self.lists):
            if mask & self.any_of[at] and not mask & self.none_of[at]:
                (<SelectedSeries>self.selected[at]).add(series)
        return 0

    def by_name(self):
        """Yield each metric name that matches with the number of its series by mask."""
        for name, plan in self.plans.items():
            counts = plan.total()
            if counts:
                yield name, counts

    def __repr__(self):
        return f"<SeriesScan {self.seen} series, {len(self.plans)} names>"

from relay.codec.otlp.point_buffer import PointBuffer
from relay.codec.remote_write.raw.label_table import RawGroup
from relay.codec.remote_write.raw_series import RawExemplar

class RawEntry:
    def __init__(
        self,
        prefix: bytes,
        fields: bytes,
        time_ns: int,
        is_point: bool = True,
        exemplars: tuple[RawExemplar, ...] = (),
    ) -> None: ...
    @property
    def prefix(self) -> bytes: ...
    @property
    def fields(self) -> bytes: ...
    @property
    def exemplars(self) -> tuple[RawExemplar, ...]: ...
    @property
    def time_ns(self) -> int: ...
    @property
    def is_point(self) -> bool: ...

class RawPointBuffer(PointBuffer):
    def add_finished(self, point: RawEntry) -> None: ...
    def add_rider(self, rider: RawEntry | bytes) -> bool: ...
    def entries(
        self,
    ) -> list[tuple[RawGroup, bytes, int, bytes] | tuple[RawGroup, RawEntry | bytes]]: ...

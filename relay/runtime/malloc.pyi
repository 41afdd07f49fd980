from collections.abc import Callable

LARGE_BYTES: int
KEPT_BYTES: int
LOOK_S: float
BUSY_SHARE: float
RESTING_SHARE: float
RESTING_LOOKS: int

def share_heap() -> bool: ...
def configure_malloc() -> bool: ...
def trim_heap() -> bool: ...

class HeapTrimmer:
    def __init__(
        self,
        *,
        tick: Callable[[], float] = ...,
        cpu_s: Callable[[], float] = ...,
        trim: Callable[[], object] = ...,
        trim_some: Callable[[], bool] = ...,
    ) -> None: ...
    def look(self) -> None: ...

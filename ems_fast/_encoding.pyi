def compiled_isas() -> list[str]: ...
def available_isas() -> list[str]: ...
def active_isa() -> str: ...
def set_active_isa(name: str) -> None: ...
def list_ends(ends: int, lists: list[list[int]]) -> int: ...
def flatten(out: int, lists: list[list[int]]) -> None: ...
def means(
    out: int,
    rows: int,
    scales: int | None,
    type: int,
    V: int,
    D: int,
    keys: int | None,
    begins: int | None,
    K: int,
    ids: int,
    starts: int,
    lengths: int,
    B: int,
    dim: int,
    normalize: bool,
    threads: int,
) -> None: ...

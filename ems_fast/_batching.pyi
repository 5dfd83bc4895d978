from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

def permuted_rows(start: int, n: int, seed: int, out: npt.NDArray[np.int64]) -> None: ...

class PairReader:
    def __init__(
        self,
        shards: Sequence[
            tuple[
                npt.NDArray[np.uint16] | npt.NDArray[np.uint32],
                npt.NDArray[np.int64],
                npt.NDArray[np.int64],
            ]
        ],
        vocab_size: int,
    ) -> None: ...
    def lengths(
        self,
        shard: npt.NDArray[np.int32],
        row: npt.NDArray[np.int64],
        out: npt.NDArray[np.int64],
    ) -> None: ...
    def hashes(
        self,
        shard: npt.NDArray[np.int32],
        row: npt.NDArray[np.int64],
        out: npt.NDArray[np.int64],
    ) -> None: ...
    def tokens(
        self,
        shard: npt.NDArray[np.int32],
        row: npt.NDArray[np.int64],
        side: npt.NDArray[np.int64],
        out: npt.NDArray[np.int64],
    ) -> None: ...

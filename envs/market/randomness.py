"""Counter-based randomness: a draw is a function of (split, seed, lane, episode, slot, channel).

No generator state exists, so results depend neither on the number of markets nor on the order in
which threads reach them. 32-bit mixer: lowbias32 (C. Wellons, hash-prospector); 64-bit finaliser:
splitmix64 (Steele, Lea, Flood 2014).
"""

import numpy as np

from kernels.compile import inline
from kernels.numbers.lanes import Floats, Ints, gather, real, whole

SPLITS = ("train", "validation", "test")
SEED_BITS = 32
LANE_BITS = 62 - SEED_BITS
EPISODE_BITS = 40
SLOT_BITS = 62 - EPISODE_BITS

_U32 = np.uint32
_U64 = np.uint64
_MASK62 = np.uint64((1 << 62) - 1)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
# Another bijection for the counter: with the same one, lane 3 in slot 5 would be lane 5 in slot 3.
_MIX_C = np.uint64(0xFF51AFD7ED558CCD)
_MIX_D = np.uint64(0xC4CEB9FE1A85EC53)
_OFFSET = np.uint64(0x1E3779B97F4A7C15)  # keeps all-zero fields away from the fixed point 0
_LOW_A = np.uint32(0x7FEB352D)
_LOW_B = np.uint32(0x846CA68B)
_STEP = np.uint32(0x9E3779B9)
_LOW32 = np.uint64(0xFFFFFFFF)
_MASK32 = 0xFFFFFFFF
TO_UNIT = 1.0 / 4294967296.0


@inline
def _mix_counter(x: np.uint64) -> np.uint64:
    """A bijection of the 62-bit integers: shifts and odd factors modulo 2^62 lose nothing."""
    x = (x + _OFFSET) & _MASK62
    x = (x ^ (x >> _U64(32))) * _MIX_C & _MASK62
    x = (x ^ (x >> _U64(29))) * _MIX_D & _MASK62
    return x ^ (x >> _U64(31))


@inline
def _mix64(x: np.uint64) -> np.uint64:
    """A bijection of the 64-bit integers."""
    x = (x ^ (x >> _U64(30))) * _MIX_A
    x = (x ^ (x >> _U64(27))) * _MIX_B
    return x ^ (x >> _U64(31))


def lane_keys(split: str, seed: int, lanes: int, first: int = 0) -> np.ndarray:
    """uint64[lanes]: one key per market, different for every (split, seed, lane).

    Bits 0-1 hold the split itself, bits 2-63 a bijective mix of seed (32 bits) and lane (30 bits),
    so that no key of one split can equal a key of another, whatever the seeds. Raises ValueError
    for an unknown split, or a seed or lane out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: choose one of {', '.join(SPLITS)}")
    if not 0 <= seed < 1 << SEED_BITS:
        raise ValueError(f"seed {seed} is outside 0 .. 2^{SEED_BITS} - 1")
    if first < 0 or lanes < 0 or first + lanes > 1 << LANE_BITS:
        raise ValueError(f"lanes {first} .. {first + lanes}: at most 2^{LANE_BITS} markets")
    keys = np.empty(lanes, np.uint64)
    mask = int(_MASK62)
    for index in range(lanes):
        x = ((seed << LANE_BITS | (first + index)) + int(_OFFSET)) & mask
        x = (x ^ x >> 30) * int(_MIX_A) & mask
        x = (x ^ x >> 27) * int(_MIX_B) & mask
        keys[index] = (x ^ x >> 31) << 2 | SPLITS.index(split)
    return keys


@inline
def slot_key(lane_key: np.uint64, episode: int, slot: int) -> np.uint64:
    """Key of one slot: for a lane key, different for every (episode < 2^40, slot < 2^22).

    The split stays in the two lowest bits until the last bijection, so slot keys of two splits
    never coincide either.
    """
    counter = (_U64(episode) << _U64(SLOT_BITS)) | _U64(slot)
    mixed = ((lane_key >> _U64(2)) + _mix_counter(counter)) & _MASK62
    return _mix64((mixed << _U64(2)) | (lane_key & _U64(3)))


@inline
def draw(key: np.uint64, channel: int) -> np.uint32:
    """32 random bits of a slot: lowbias32 of the channel, with half of the key in its middle."""
    x = _U32(_U32(key & _LOW32) + _U32(_U32(channel) * _STEP))
    x = _U32(_U32(x ^ _U32(x >> _U32(16))) * _LOW_A)
    x = _U32(x ^ _U32(key >> _U64(32)))
    x = _U32(_U32(x ^ _U32(x >> _U32(15))) * _LOW_B)
    return _U32(x ^ _U32(x >> _U32(16)))


@inline
def uniform(key: np.uint64, channel: int) -> float:
    """A uniform number in [0, 1) with 32 bits."""
    return np.float64(draw(key, channel)) * TO_UNIT


@inline
def quantile(table: np.ndarray, row: int, u: float) -> float:
    """Inverse distribution function by linear interpolation: row of float64[rows, cells + 1]."""
    x = u * (table.shape[1] - 1)
    cell = int(x)
    low = table[row, cell]
    return low + (x - cell) * (table[row, cell + 1] - low)


@inline
def draws(keys: Ints, channel: Ints) -> Ints:
    """`draw` in the lanes at hand: 32-bit arithmetic in the low halves of 64-bit words."""
    x = ((keys & _MASK32) + ((channel * int(_STEP)) & _MASK32)) & _MASK32
    x = ((x ^ (x >> 16)) * int(_LOW_A)) & _MASK32
    x = x ^ ((keys >> 32) & _MASK32)
    x = ((x ^ (x >> 15)) * int(_LOW_B)) & _MASK32
    return x ^ (x >> 16)


@inline
def uniforms(keys: Ints, channel: Ints) -> Floats:
    """`uniform` in the lanes at hand."""
    return real(draws(keys, channel)) * TO_UNIT


@inline
def quantiles(table: np.ndarray, row: int, u: Floats) -> Floats:
    """`quantile` in the lanes at hand."""
    x = u * (table.shape[1] - 1)
    cell = whole(x)
    low = gather(table, row, cell)
    return low + (x - real(cell)) * (gather(table, row, cell + 1) - low)

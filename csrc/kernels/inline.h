// A hot loop calls these several times; left to itself the compiler keeps their accumulators in memory.
#pragma once

#define FEDAGG_INLINE __attribute__((always_inline)) inline
#define FEDAGG_INLINE_LAMBDA __attribute__((always_inline))

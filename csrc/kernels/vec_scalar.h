// The vector wrapper with one lane: the reference shape of the interface that every vec_<isa>.h implements. It runs on
// any CPU, and in double for gradient checks. docs/adding-an-isa.md says what each member must do.
#pragma once

#include <cstddef>
#include <cstdint>

#include "exp2.h"
#include "exponent.h"
#include "half.h"

namespace {

template <class Number>
struct Scalar {
    using Real = Number;
    using F = Number;
    using Wide = double;  // the same lanes in double, for sums that must not lose digits
    static constexpr std::size_t width = 1;
    static constexpr bool has_blocks = false;  // no column-wise path for small C: with one lane it is the row path
    static constexpr bool has_streams = false;
    static constexpr bool has_fma = false;  // a * b + c in one rounding
    static constexpr bool has_quads = false;  // 16 bytes from and to four vectors
    static constexpr bool max_keeps_nan = false;
    static constexpr bool in_step = false;  // see exp2.h
    static constexpr bool loads_constants = false;  // rather than keep them in registers: exp2.h
    static constexpr bool exp2_drops_rest = false;  // of a whole below -126, NaN or not
    static constexpr bool has_half = false;  // no wrapper of half the width for batches that would leave most lanes idle

    static F set1(Real x) { return x; }
    static F load(const Real* p) { return *p; }
    static F load(const std::uint16_t* p) { return static_cast<F>(float_from_half(*p)); }
    static F load(const std::int8_t* p) { return static_cast<F>(*p); }
    template <class T>
    static F load_first(const T* p, std::size_t, F) {
        return load(p);
    }
    static void store(Real* p, F x) { *p = x; }
    static void store_first(Real* p, F x, std::size_t) { *p = x; }
    static void stream(Real* p, F x) { *p = x; }
    static void fence() {}
    static void prefetch(const void*) {}

    static F fma(F a, F b, F c) { return a * b + c; }
    static F max(F a, F b) { return a > b ? a : b; }
    static F min(F a, F b) { return a < b ? a : b; }
    static F nan_or_zero(F x) { return x != x ? x : 0; }
    // of floats as on every instruction set; a double's exponentials go down to its own end
    static bool improbable(F p) { return sizeof(F) == sizeof(float) ? p < F(0x1p-126) : p == 0; }
    static F add_product_unless_zero(F p, F d, F sum) { return improbable(p) ? sum : sum + p * d; }
    static F zero_where_improbable(F p, F x) { return improbable(p) ? 0 : x; }
    static F zero_where_zero(F w, F x) { return w == 0 ? 0 : x; }
    static F zero_below(F y, F least, F x) { return y < least ? 0 : x; }
    static Real sum(F x) { return x; }
    static Real largest(F x) { return x; }

    static Wide wide(F x) { return static_cast<double>(x); }
    static Wide set1_wide(double x) { return x; }
    static Wide add(Wide a, Wide b) { return a + b; }
    static double sum_wide(Wide x) { return x; }

    template <Digits digits = Digits::all>
    static F exp2(F t) {
        if constexpr (sizeof(Real) == sizeof(double)) {
            return __builtin_exp2(t);
        } else {
            t = t < -127.F ? -127.F : t;  // 2^-127 comes out as 0; a NaN fails the comparison and stays
            const float shifted = t + 12582912.F;  // 1.5 * 2^23: rounds to an integer, kept in the low bits
            const float p = exp2_polynomial<Scalar, Exp2Nearest, digits>(t - (shifted - 12582912.F));
            return p * float_from_bits((bits_from_float(shifted) << 23) + 0x3f800000U);
        }
    }
    template <Digits digits = Digits::all>
    static F exp2(F whole, F rest) {  // 2^(whole + rest)
        if constexpr (sizeof(Real) == sizeof(double)) {
            return __builtin_exp2(whole);
        } else {
            // below 2^-126: 0; a NaN fails the comparison and stays
            const float n = whole < -126.F ? -127.F : whole;
            const float p = exp2_polynomial<Scalar, Exp2Nearest, digits>(rest);
            return p * float_from_bits((bits_from_float(n + 12582912.F) << 23) + 0x3f800000U);
        }
    }
    // x = m * 2^e with m in [0.75, 1.5), for positive normal x
    static F split(F x, F& e) {
        const std::uint32_t offset = bits_from_float(static_cast<float>(x)) - 0x3f400000U;
        e = static_cast<F>(static_cast<std::int32_t>(offset) >> 23);
        return float_from_bits((offset & 0x007fffffU) + 0x3f400000U);
    }

    static void store(std::uint16_t* p, F x) { *p = half_from_float(x); }
    static void store_first(std::uint16_t* p, F x, std::size_t) { store(p, x); }
    static F abs(F x) { return x < 0 ? -x : x; }
    // to the nearest integer, ties to even, for |x| < 2^22
    static F round(F x) { return (x + 12582912.F) - 12582912.F; }
    static void store(std::int8_t* p, F integer) { *p = static_cast<std::int8_t>(integer); }
    static void store_first(std::int8_t* p, F integer, std::size_t) { store(p, integer); }
    static void store(std::uint8_t* p, F integer) { *p = static_cast<std::uint8_t>(integer); }
    static void store_first(std::uint8_t* p, F integer, std::size_t) { store(p, integer); }
    static F load(const std::uint8_t* p) { return static_cast<F>(*p); }
    // a NaN becomes low
    static F clamp(F x, F low, F high) { return x > low ? (x < high ? x : high) : low; }
};

}  // namespace

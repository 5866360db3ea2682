// (x - max) / temperature as a base-2 exponent that has lost no digits: a whole number and a rest near 0. Classes that are
// alike share their exponent's error, and a sum over thousands of them keeps it; docs/decisions/kernel-errors.md.
#pragma once

#include "exp2.h"
#include "inline.h"

namespace {

constexpr double log2_of_e = 1.4426950408889634;
constexpr double ln_of_2 = 0.6931471805599453;

template <class V>
struct Exponent {
    typename V::F whole, rest;  // -inf and anything below -2^22 has the rest 0
};

// a - b and what its rounding left over (Knuth's TwoSum); the wrapper without fma has double instead.
template <class V>
struct Difference {
    using F = typename V::F;
    FEDAGG_INLINE Difference(F a, F b) {
        high = a - b;
        if constexpr (V::has_fma) {
            const F part = a - high;
            low = (a - (high + part)) + (part - b);
        } else {
            exact = static_cast<double>(a) - static_cast<double>(b);
        }
    }
    F high, low = V::set1(0);
    double exact = 0;
};

// log2(e) / temperature, a factor for differences of logits.
template <class V>
struct LogitScale {
    using Real = typename V::Real;
    using F = typename V::F;
    explicit LogitScale(double temperature) : factor(log2_of_e / temperature) {
        high = V::set1(static_cast<Real>(factor));
        low = V::set1(static_cast<Real>(factor - static_cast<double>(static_cast<Real>(factor))));
    }
    // only_as_factor: where 2^whole is 0 nobody looks at the rest
    template <bool only_as_factor = false>
    FEDAGG_INLINE Exponent<V> exponent(const Difference<V>& below_max) const {
        if constexpr (sizeof(Real) == sizeof(double)) {
            return {below_max.high * high, 0};
        } else if constexpr (!V::has_fma) {
            const double y = below_max.exact * factor;
            const double n = (y + 6755399441055744.0) - 6755399441055744.0;  // 1.5 * 2^52: to the nearest whole number
            return {static_cast<F>(n), y < least ? 0 : static_cast<F>(y - n)};
        } else {
            const F y = below_max.high * high;
            const F n = V::round(y);
            const F r = V::fma(below_max.low, high, V::fma(below_max.high, high, -n));
            const F rest = V::fma(below_max.high, low, r);
            if constexpr (only_as_factor && V::exp2_drops_rest) return {n, rest};
            return {n, V::zero_below(y, V::set1(least), rest)};
        }
    }
    F high, low;
    double factor;
    static constexpr Real least = -4194304;  // below it, floats hold no fraction
};

// (x - max) in natural units, whole * log(2) + rest. log(2) in one float is nearer than floats need be: 2e-9 for every factor of 2.
// Without fma it is in units of log(2), as all others.
template <class V>
FEDAGG_INLINE Exponent<V> natural_exponent(const Difference<V>& below_max) {
    using F = typename V::F;
    if constexpr (V::has_fma) {
        const F n = V::round(below_max.high * V::set1(static_cast<float>(log2_of_e)));
        const F r = V::fma(n, V::set1(static_cast<float>(-ln_of_2)), below_max.high) + below_max.low;
        if constexpr (V::exp2_drops_rest) return {n, r};
        return {n, V::zero_below(n, V::set1(LogitScale<V>::least), r)};
    } else {
        return LogitScale<V>(1).exponent(below_max);
    }
}

// e^(x - max)
template <class V>
FEDAGG_INLINE typename V::F exponential(const Difference<V>& below_max) {
    constexpr Digits digits = V::has_fma ? Digits::natural : Digits::all;
    const Exponent<V> t = natural_exponent(below_max);
    return V::template exp2<digits>(t.whole, t.rest);
}

// A sum in two floats. It counts from `start`: as long as no term exceeds that, what an addition's rounding leaves over is
// kept (Dekker's FastTwoSum); a larger term costs one ordinary rounding. An infinite sum's rest is NaN. Without fma: in double.
template <class V>
struct Compensated {
    using F = typename V::F;
    explicit Compensated(typename V::Real from) : start(from), sum(V::set1(from)) {}
    FEDAGG_INLINE void add(F x) {
        if constexpr (!V::has_fma) {
            exact += static_cast<double>(x);  // one lane sums all classes: too many for the rest's own digits
            return;
        }
        const F next = sum + x;
        rest = rest + (x - (next - sum));
        sum = next;
    }
    typename V::Wide wide() const {
        if constexpr (!V::has_fma) return exact;
        return V::add(V::add(V::wide(sum), V::set1_wide(-static_cast<double>(start))), V::wide(rest));
    }
    F narrow() const { return (sum - V::set1(start)) + rest; }
    typename V::Real start;
    F sum, rest = V::set1(0);
    double exact = 0;
};

}  // namespace

// What travels: conversions between floats and f16, bytes with a scale per row, and bytes with an affine map per channel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "half.h"
#include "inline.h"
#include "log.h"

namespace {

template <class V, class From, class To>
void convert_run(const From* x, std::size_t count, To* out) {
    constexpr std::size_t w = V::width;
    std::size_t i = 0;
    for (; i + w <= count; i += w) V::store(out + i, V::load(x + i));
    if (i < count) V::store_first(out + i, V::load_first(x + i, count - i, V::set1(0)), count - i);
}

template <class V>
void f32_to_f16(const float* x, std::size_t count, std::uint16_t* out) {
    convert_run<V>(x, count, out);
}

template <class V>
void f16_to_f32(const std::uint16_t* x, std::size_t count, float* out) {
    convert_run<V>(x, count, out);
}

// Vectors that cover a row: four(c) for four from c on where the wrapper moves 16 bytes at a time, one(c) for one. The last
// one may overlap its predecessor: writing the same again is cheaper than a part. Rows of a vector at least.
template <class V, class Four, class One>
FEDAGG_INLINE void cover_row(std::size_t classes, const Four& four, const One& one) {
    constexpr std::size_t w = V::width;
    std::size_t c = 0;
    if constexpr (V::has_quads) {
        for (; c + 4 * w <= classes; c += 4 * w) four(c);
    }
    for (; c + w <= classes; c += w) one(c);
    if (c < classes) one(classes - w);
}

// What a row's largest magnitude makes of it: the divisor of its codes, and what the receiver multiplies them with.
struct RowScale {
    float divisor, told;
    bool is_blank;  // codes of 0: below that a scale would be subnormal and have few digits, or the row is not finite
};

template <class V>
FEDAGG_INLINE RowScale row_scale_of(typename V::F largest, typename V::F not_finite) {
    const float most = V::largest(largest);
    const bool is_zero = most < 127 * smallest_normal;
    const float maximum = is_zero ? 0 : most, bad = V::max_keeps_nan ? most - most : V::sum(not_finite);
    float row = maximum / 127.F;
    if (row * 127.F > 3.40282347e+38F) row = float_from_bits(bits_from_float(row) - 1);  // it would decode to infinity
    return {row, row + bad, is_zero || bad != bad};
}

// |x| is at most 127 scales and some roundings, so no code is beyond 127
template <class V>
FEDAGG_INLINE typename V::F code_of(typename V::F x, typename V::F scale) { return V::round(x / scale); }

template <class V>
struct Magnitudes {
    typename V::F largest = V::set1(0), not_finite = V::set1(0);
    FEDAGG_INLINE void look(typename V::F x) {
        largest = V::max(V::abs(x), largest);
        if constexpr (!V::max_keeps_nan) not_finite = not_finite + (x - x);  // NaN once there is a NaN or an infinity
    }
};

// Where the vectors of a row begin that so many cover; the last one may overlap its predecessor.
template <class V, std::size_t vectors>
FEDAGG_INLINE std::size_t start_of(std::size_t j, std::size_t classes) {
    return j + 1 < vectors ? j * V::width : classes - V::width;
}

// Rows that so many vectors hold: in registers from the look for the largest to the codes.
template <class V, std::size_t vectors>
void f32_to_i8_short(const float* x, std::size_t rows, std::size_t classes, std::int8_t* out, float* row_scale) {
    for (std::size_t n = 0; n < rows; ++n, x += classes, out += classes) {
        typename V::F row[vectors];
        Magnitudes<V> seen;
        for (std::size_t j = 0; j < vectors; ++j) {
            row[j] = V::load(x + start_of<V, vectors>(j, classes));
            seen.look(row[j]);
        }
        const RowScale scale = row_scale_of<V>(seen.largest, seen.not_finite);
        row_scale[n] = scale.told;
        if (scale.is_blank) {
            __builtin_memset(out, 0, classes);
            continue;
        }
        const auto divisor = V::set1(scale.divisor);
        for (std::size_t j = 0; j < vectors; ++j) V::store(out + start_of<V, vectors>(j, classes), code_of<V>(row[j], divisor));
    }
}

template <class V, std::size_t vectors>
void i8_to_f32_short(const std::int8_t* x, const float* row_scale, std::size_t rows, std::size_t classes, float* out) {
    for (std::size_t n = 0; n < rows; ++n, x += classes, out += classes) {
        const auto scale = V::set1(row_scale[n]);
        for (std::size_t j = 0; j < vectors; ++j) {
            const std::size_t at = start_of<V, vectors>(j, classes);
            V::store(out + at, V::load(x + at) * scale);
        }
    }
}

template <std::size_t n>
struct Count {
    static constexpr std::size_t value = n;
};

// body(Count<n>()) with the number of vectors that cover a row, if that is 1 to 8; whether it is.
template <class V, std::size_t n = 8, class Body>
FEDAGG_INLINE bool with_vectors_of(std::size_t classes, const Body& body) {
    if constexpr (n == 0) {
        return false;
    } else if (classes >= V::width && (classes + V::width - 1) / V::width == n) {
        body(Count<n>());
        return true;
    } else {
        return with_vectors_of<V, n - 1>(classes, body);
    }
}

// f32_to_i8_rows__<isa>
template <class V>
void f32_to_i8_rows(const float* x, std::size_t rows, std::size_t classes, std::int8_t* out, float* row_scale) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    const bool is_short = with_vectors_of<V>(classes, [&](auto vectors) {
        f32_to_i8_short<V, decltype(vectors)::value>(x, rows, classes, out, row_scale);
    });
    if (is_short) return;
    for (std::size_t n = 0; n < rows; ++n, x += classes, out += classes) {
        Magnitudes<V> seen;
        if (classes < w) {
            seen.look(V::load_first(x, classes, V::set1(0)));
        } else {
            const auto one = [&](std::size_t c) FEDAGG_INLINE_LAMBDA { seen.look(V::load(x + c)); };
            cover_row<V>(classes, [&](std::size_t c) FEDAGG_INLINE_LAMBDA {
                for (std::size_t i = 0; i < 4; ++i) one(c + i * w);
            }, one);
        }
        const RowScale found = row_scale_of<V>(seen.largest, seen.not_finite);
        row_scale[n] = found.told;
        if (found.is_blank) {
            __builtin_memset(out, 0, classes);
            continue;
        }
        const F scale = V::set1(found.divisor);
        if (classes < w) {
            V::store_first(out, code_of<V>(V::load_first(x, classes, V::set1(0)), scale), classes);
            continue;
        }
        cover_row<V>(classes, [&](std::size_t c) FEDAGG_INLINE_LAMBDA {
            if constexpr (V::has_quads) {
                F four[4];
                for (std::size_t i = 0; i < 4; ++i) four[i] = code_of<V>(V::load(x + c + i * w), scale);
                V::store_quad(out + c, four);
            }
        }, [&](std::size_t c) FEDAGG_INLINE_LAMBDA { V::store(out + c, code_of<V>(V::load(x + c), scale)); });
    }
}

template <class V>
void i8_to_f32_rows(const std::int8_t* x, const float* row_scale, std::size_t rows, std::size_t classes, float* out) {
    constexpr std::size_t w = V::width;
    const bool is_short = with_vectors_of<V>(classes, [&](auto vectors) {
        i8_to_f32_short<V, decltype(vectors)::value>(x, row_scale, rows, classes, out);
    });
    if (is_short) return;
    for (std::size_t n = 0; n < rows; ++n, x += classes, out += classes) {
        const auto scale = V::set1(row_scale[n]);
        if (classes < w) {
            V::store_first(out, V::load_first(x, classes, scale) * scale, classes);
            continue;
        }
        cover_row<V>(classes, [&](std::size_t c) FEDAGG_INLINE_LAMBDA {
            if constexpr (V::has_quads) {
                typename V::F four[4];
                V::load_quad(x + c, four);
                for (std::size_t i = 0; i < 4; ++i) V::store(out + c + i * w, four[i] * scale);
            }
        }, [&](std::size_t c) FEDAGG_INLINE_LAMBDA { V::store(out + c, V::load(x + c) * scale); });
    }
}

// f32_to_affine_rows__<isa>
template <class V>
bool f32_to_affine_rows(const float* x, const float* low, const float* step, const float* top, std::size_t rows,
                        std::size_t channels, std::uint8_t* out) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    const F zero = V::set1(0), one = V::set1(1);
    bool numbers = true;
    for (std::size_t n = 0; n < rows; ++n, x += channels, out += channels) {
        F seen = zero;
        for (std::size_t d = 0; d < channels; d += w) {
            const std::size_t count = channels - d < w ? channels - d : w;
            const F v = V::load_first(x + d, count, zero);
            const F q = (v - V::load_first(low + d, count, zero)) / V::load_first(step + d, count, one);
            V::store_first(out + d, V::round(V::clamp(q, zero, V::load_first(top + d, count, zero))), count);
            seen = seen + v * zero;  // NaN once there is a NaN or an infinity
        }
        const float total = V::sum(seen);
        numbers = numbers && total == total;
    }
    return numbers;
}

template <class V>
void affine_to_f32_rows(const std::uint8_t* x, const float* low, const float* step, std::size_t rows, std::size_t channels,
                        float* out) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    const F zero = V::set1(0);
    for (std::size_t n = 0; n < rows; ++n, x += channels, out += channels) {
        for (std::size_t d = 0; d < channels; d += w) {
            const std::size_t count = channels - d < w ? channels - d : w;
            const F code = V::load_first(x + d, count, zero);
            const F value = V::fma(code, V::load_first(step + d, count, zero), V::load_first(low + d, count, zero));
            V::store_first(out + d, value, count);
        }
    }
}

}  // namespace

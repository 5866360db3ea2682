#include "fedagg/codec.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "fedagg/cpu.h"
#include "fedagg/error.h"
#include "number_text.h"

namespace fedagg {
namespace {

void check_affine(const float* low, const float* step, std::size_t channels) {
    for (std::size_t d = 0; d < channels; ++d) {
        if (!std::isfinite(low[d])) {
            throw ArgumentError("low_D: got " + text(low[d]) + " at channel " + std::to_string(d) +
                                ", expected a finite number");
        }
        if (!(step[d] > 0) || !std::isfinite(step[d])) {
            throw ArgumentError("step_D: got " + text(step[d]) + " at channel " + std::to_string(d) +
                                ", expected a finite number above 0");
        }
    }
}

void check_bits(const std::uint8_t* bits, std::size_t channels) {
    for (std::size_t d = 0; d < channels; ++d) {
        if (bits[d] > 8) {
            throw ArgumentError("bits_D: got " + std::to_string(bits[d]) + " at channel " + std::to_string(d) +
                                ", expected 0 to 8");
        }
    }
}

// log of the mean of exp(x) over order[k:], in double
double log_mean_exp(const float* x, const std::vector<std::uint16_t>& order, std::size_t k) {
    double largest = -INFINITY, sum = 0;
    for (std::size_t i = k; i < order.size(); ++i) largest = std::max(largest, static_cast<double>(x[order[i]]));
    if (std::isinf(largest)) return largest;
    for (std::size_t i = k; i < order.size(); ++i) sum += std::exp(static_cast<double>(x[order[i]]) - largest);
    return largest + std::log(sum / static_cast<double>(order.size() - k));
}

void encode_top_k_row(const float* x, std::size_t k, std::vector<std::uint16_t>& order, std::uint16_t* kept,
                      float* values, float& rest) {
    for (std::size_t c = 0; c < order.size(); ++c) order[c] = static_cast<std::uint16_t>(c);
    const bool has_nan = std::any_of(x, x + order.size(), [](float z) { return std::isnan(z); });
    const auto before = [x](std::uint16_t a, std::uint16_t b) { return x[a] != x[b] ? x[a] > x[b] : a < b; };
    if (!has_nan) std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), order.end(), before);
    for (std::size_t i = 0; i < k; ++i) {
        kept[i] = order[i];
        values[i] = has_nan ? NAN : x[order[i]];
    }
    rest = has_nan ? NAN : static_cast<float>(log_mean_exp(x, order, k));
}

}  // namespace

void to_f16(const float* x, std::size_t count, std::uint16_t* out) { active_kernels().f32_to_f16(x, count, out); }

void from_f16(const std::uint16_t* x, std::size_t count, float* out) { active_kernels().f16_to_f32(x, count, out); }

void quantise_logits(const float* x, std::size_t rows, std::size_t classes, std::int8_t* out, float* row_scale) {
    if (classes == 0) {  // kernels take rows that have something in them
        std::fill_n(row_scale, rows, 0.F);
        return;
    }
    active_kernels().f32_to_i8_rows(x, rows, classes, out, row_scale);
}

void dequantise_logits(const std::int8_t* x, const float* row_scale, std::size_t rows, std::size_t classes, float* out) {
    if (classes == 0) return;
    active_kernels().i8_to_f32_rows(x, row_scale, rows, classes, out);
}

void encode_top_k(const float* x, std::size_t rows, std::size_t classes, std::size_t k, std::uint16_t* kept,
                  float* values, float* rest) {
    if (k < 1 || k > classes || classes > 65536) {
        throw ArgumentError("k: got " + std::to_string(k) + " of " + std::to_string(classes) +
                            " classes, expected 1 to the number of classes, at most 65536");
    }
    std::vector<std::uint16_t> order(classes);
    for (std::size_t n = 0; n < rows; ++n) {
        encode_top_k_row(x + n * classes, k, order, kept + n * k, values + n * k, rest[n]);
    }
}

void decode_top_k(const std::uint16_t* kept, const float* values, const float* rest, std::size_t rows,
                  std::size_t classes, std::size_t k, float* out) {
    for (std::size_t i = 0; i < rows * k; ++i) {
        if (kept[i] >= classes) {
            throw ArgumentError("classes_NK: got " + std::to_string(kept[i]) + " at row " + std::to_string(i / k) +
                                ", expected a class below " + std::to_string(classes));
        }
    }
    for (std::size_t n = 0; n < rows; ++n, kept += k, values += k, out += classes) {
        std::fill_n(out, classes, rest[n]);
        for (std::size_t i = 0; i < k; ++i) out[kept[i]] = values[i];
    }
}

void encode_affine(const float* x, const float* low, const float* step, const std::uint8_t* bits, std::size_t rows,
                   std::size_t channels, std::uint8_t* out) {
    check_affine(low, step, channels);
    std::vector<float> top(channels, 255.F);
    if (bits != nullptr) {
        check_bits(bits, channels);
        for (std::size_t d = 0; d < channels; ++d) top[d] = static_cast<float>((1U << bits[d]) - 1U);
    }
    if (channels == 0) return;
    if (!active_kernels().f32_to_affine_rows(x, low, step, top.data(), rows, channels, out)) {
        throw ArgumentError("x_ND: got a NaN or an infinity, expected finite numbers");
    }
}

void decode_affine(const std::uint8_t* x, const float* low, const float* step, std::size_t rows, std::size_t channels,
                   float* out) {
    check_affine(low, step, channels);
    if (channels == 0) return;
    active_kernels().affine_to_f32_rows(x, low, step, rows, channels, out);
}

std::size_t packed_bytes(const std::uint8_t* bits, std::size_t channels) {
    check_bits(bits, channels);
    std::size_t total = 0;
    for (std::size_t d = 0; d < channels; ++d) total += bits[d];
    return (total + 7) / 8;
}

void pack_bits(const std::uint8_t* codes, const std::uint8_t* bits, std::size_t rows, std::size_t channels,
               std::uint8_t* out) {
    check_bits(bits, channels);
    for (std::size_t n = 0; n < rows; ++n, codes += channels) {
        unsigned pending = 0, filled = 0;
        for (std::size_t d = 0; d < channels; ++d) {
            if (codes[d] >> bits[d] != 0) {
                throw ArgumentError("codes_ND: got " + std::to_string(codes[d]) + " at row " + std::to_string(n) +
                                    ", channel " + std::to_string(d) + ", expected a code of " +
                                    std::to_string(bits[d]) + " bits");
            }
            pending |= static_cast<unsigned>(codes[d]) << filled;
            filled += bits[d];
            if (filled >= 8) {
                *out++ = static_cast<std::uint8_t>(pending);
                pending >>= 8;
                filled -= 8;
            }
        }
        if (filled > 0) *out++ = static_cast<std::uint8_t>(pending);
    }
}

void unpack_bits(const std::uint8_t* packed, const std::uint8_t* bits, std::size_t rows, std::size_t channels,
                 std::uint8_t* out) {
    check_bits(bits, channels);
    for (std::size_t n = 0; n < rows; ++n) {
        unsigned pending = 0, available = 0;
        for (std::size_t d = 0; d < channels; ++d) {
            if (available < bits[d]) {
                pending |= static_cast<unsigned>(*packed++) << available;
                available += 8;
            }
            *out++ = static_cast<std::uint8_t>(pending & ((1U << bits[d]) - 1U));
            pending >>= bits[d];
            available -= bits[d];
        }
    }
}

}  // namespace fedagg

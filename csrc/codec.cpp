#include "fedagg/codec.h"

#include <cmath>
#include <string>

#include "fedagg/cpu.h"
#include "fedagg/error.h"

namespace fedagg {
namespace {

void check_affine(const float* low, const float* step, std::size_t channels) {
    for (std::size_t d = 0; d < channels; ++d) {
        if (!std::isfinite(low[d])) {
            throw ArgumentError("low_D: got " + std::to_string(low[d]) + " at channel " + std::to_string(d) +
                                ", expected a finite number");
        }
        if (!(step[d] > 0) || !std::isfinite(step[d])) {
            throw ArgumentError("step_D: got " + std::to_string(step[d]) + " at channel " + std::to_string(d) +
                                ", expected a finite number above 0");
        }
    }
}

}  // namespace

void to_f16(const float* x, std::size_t count, std::uint16_t* out) { active_kernels().f32_to_f16(x, count, out); }

void from_f16(const std::uint16_t* x, std::size_t count, float* out) { active_kernels().f16_to_f32(x, count, out); }

void quantise_logits(const float* x, std::size_t rows, std::size_t classes, std::int8_t* out, float* row_scale) {
    active_kernels().f32_to_i8_rows(x, rows, classes, out, row_scale);
}

void dequantise_logits(const std::int8_t* x, const float* row_scale, std::size_t rows, std::size_t classes, float* out) {
    active_kernels().i8_to_f32_rows(x, row_scale, rows, classes, out);
}

void encode_affine(const float* x, const float* low, const float* step, std::size_t rows, std::size_t channels,
                   std::uint8_t* out) {
    check_affine(low, step, channels);
    if (!active_kernels().f32_to_affine_rows(x, low, step, rows, channels, out)) {
        throw ArgumentError("x_ND: got a NaN or an infinity, expected finite numbers");
    }
}

void decode_affine(const std::uint8_t* x, const float* low, const float* step, std::size_t rows, std::size_t channels,
                   float* out) {
    check_affine(low, step, channels);
    active_kernels().affine_to_f32_rows(x, low, step, rows, channels, out);
}

}  // namespace fedagg

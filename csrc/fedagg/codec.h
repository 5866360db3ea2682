// What travels: logits as f16 or as one byte per class with a scale per row, embeddings as one byte per channel.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fedagg {

void to_f16(const float* x, std::size_t count, std::uint16_t* out);
void from_f16(const std::uint16_t* x, std::size_t count, float* out);

// scale_n = max_c |x_nc| / 127, byte = round_half_even(x / scale); a row that is not finite decodes to NaN, one
// below 1.5e-36 to zeros.
void quantise_logits(const float* x, std::size_t rows, std::size_t classes, std::int8_t* out, float* row_scale);
void dequantise_logits(const std::int8_t* x, const float* row_scale, std::size_t rows, std::size_t classes,
                       float* out);

// x ~ low_d + code * step_d. Throws ArgumentError for a step that is not a positive finite number, or a low
// or an x that is not finite; values outside the range are clamped.
void encode_affine(const float* x, const float* low, const float* step, std::size_t rows, std::size_t channels,
                   std::uint8_t* out);
void decode_affine(const std::uint8_t* x, const float* low, const float* step, std::size_t rows,
                   std::size_t channels, float* out);

}  // namespace fedagg

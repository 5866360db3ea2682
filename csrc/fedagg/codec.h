// What travels: logits as f16, as one byte per class with a scale per row, or as the k largest; embeddings as one byte
// per channel, or packed to fewer bits.
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

// The k largest logits of a row and what is left: `rest` is the logit that, given to each of the other classes, leaves
// the softmax of the kept ones as it was. Kept classes come by falling logit, equal ones by rising class. A row that
// holds a NaN decodes to NaN. Throws ArgumentError unless 1 <= k <= classes <= 65536.
void encode_top_k(const float* x, std::size_t rows, std::size_t classes, std::size_t k, std::uint16_t* kept,
                  float* values, float* rest);
// Throws ArgumentError for a kept class outside [0, classes).
void decode_top_k(const std::uint16_t* kept, const float* values, const float* rest, std::size_t rows,
                  std::size_t classes, std::size_t k, float* out);

// x ~ low_d + code * step_d with code below 2^bits_d (256 when bits is null). Throws ArgumentError for a step that is not
// a positive finite number, or a low or an x that is not finite; values outside the range are clamped.
void encode_affine(const float* x, const float* low, const float* step, const std::uint8_t* bits, std::size_t rows,
                   std::size_t channels, std::uint8_t* out);
void decode_affine(const std::uint8_t* x, const float* low, const float* step, std::size_t rows,
                   std::size_t channels, float* out);

// Codes of bits_d bits each (0 to 8; 0 for a channel that is not sent), packed row by row from the lowest bit of the
// first byte; every row starts a new byte. Throws ArgumentError for more than 8 bits or a code that needs more.
std::size_t packed_bytes(const std::uint8_t* bits, std::size_t channels);
void pack_bits(const std::uint8_t* codes, const std::uint8_t* bits, std::size_t rows, std::size_t channels,
               std::uint8_t* out);
void unpack_bits(const std::uint8_t* packed, const std::uint8_t* bits, std::size_t rows, std::size_t channels,
                 std::uint8_t* out);

}  // namespace fedagg

// Aggregation of the logits that K teachers gave to the same N samples, checked and batched.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fedagg/kernels.h"

namespace fedagg {

enum class Aggregation : std::uint8_t {
    mean_logits,         // sum_k w_k z_k
    mean_probabilities,  // log(sum_k w_k softmax(z_k))
};

struct AggregateInput {
    const Logits* teachers = nullptr;
    std::size_t teacher_count = 0;
    std::size_t rows = 0;
    std::size_t classes = 0;
    const float* teacher_weights = nullptr;  // [K] or null (all 1); finite, not negative
    const float* sample_weights = nullptr;   // [K, rows] or null (all 1); finite, not negative
    const std::uint8_t* mask = nullptr;      // [K, rows] or null; 0 leaves teacher k out of sample n
};

// Weights are teacher_weights * sample_weights * mask, normalised to sum to 1 for every sample. A teacher of weight 0
// has no influence on that sample, even if its logits are NaN. out [rows, classes] overlaps no teacher.
// Throws ArgumentError when there is no teacher, or a sample whose weights sum to 0; out is unspecified then.
void aggregate_logits(const AggregateInput& input, Aggregation method, unsigned threads, float* out);

}  // namespace fedagg

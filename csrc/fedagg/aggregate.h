// Aggregation of the logits that K teachers gave to the same N samples, checked and batched.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fedagg/kernels.h"

namespace fedagg {

enum class Aggregation : std::uint8_t {
    mean_logits,         // sum_k w_k z_k
    mean_probabilities,  // log(sum_k w_k softmax(z_k))
    entropy_weighted,    // mean_logits with w_k * exp(-entropy(softmax(z_k))): whoever is sure counts more
    trimmed_mean,        // for every element the mean without the `trim` smallest and the `trim` largest shares
    median,              // for every element the middle value, or the mean of the middle two
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
// has no influence on that sample, even if its logits are NaN. trimmed_mean and median count teachers instead of weighing
// them: there a weight only says whether a teacher takes part. out [rows, classes] overlaps no teacher.
// Throws ArgumentError when there is no teacher, a sample whose weights sum to 0, or a trim outside [0, 0.5); out is
// unspecified then.
//
// Child by child: mean_logits and mean_probabilities may be built up by aggregating the aggregate so far, with the sum
// of its weights, and the next teacher; entropy_weighted likewise by mean_logits with weights from `confidence`.
void aggregate_logits(const AggregateInput& input, Aggregation method, double trim, unsigned threads, float* out);

// exp(-entropy(softmax(z_n))) for every row, from 1 / classes to 1.
void confidence(const Logits& logits, std::size_t rows, std::size_t classes, float* out);

}  // namespace fedagg

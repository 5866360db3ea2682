// log(sum_k w_k softmax(z_k)) of one row in double, for the rare row where float loses a probability: a class that every
// teacher finds less likely than 2^-126 keeps a finite logarithm, so that a later KL does not become infinite.
#pragma once

#include "../fedagg/kernels.h"
#include "half.h"

namespace {

using namespace fedagg;  // the contract's names; this file is only ever included by a kernel file

inline double logit_at(const Logits& logits, std::size_t row, std::size_t classes, std::size_t c) {
    const std::size_t at = row * classes + c;
    switch (logits.type) {
        case LogitType::f16: return static_cast<double>(float_from_half(static_cast<const std::uint16_t*>(logits.data)[at]));
        case LogitType::i8:
            return static_cast<double>(static_cast<float>(static_cast<const std::int8_t*>(logits.data)[at]) *
                                       logits.row_scale[row]);
        default: return static_cast<double>(static_cast<const float*>(logits.data)[at]);
    }
}

inline double log_sum_exp(const Logits& logits, std::size_t row, std::size_t classes) {
    double maximum = logit_at(logits, row, classes, 0), sum = 0;
    for (std::size_t c = 1; c < classes; ++c) {
        const double z = logit_at(logits, row, classes, c);
        if (z > maximum) maximum = z;
    }
    for (std::size_t c = 0; c < classes; ++c) sum += __builtin_exp(logit_at(logits, row, classes, c) - maximum);
    return maximum + __builtin_log(sum);
}

// scratch: four floats per class, for a running maximum and a running sum in double
inline void exact_log_mean_row(const AggregateBlock& block, std::size_t n, std::size_t begin, std::size_t end,
                               float* scratch) {
    const std::size_t classes = block.classes;
    double* const maximum = static_cast<double*>(static_cast<void*>(scratch));
    double* const sum = maximum + classes;
    for (std::size_t c = 0; c < classes; ++c) {
        maximum[c] = -__builtin_inf();
        sum[c] = 0;
    }
    for (std::size_t k = 0; k < block.teacher_count; ++k) {
        const float weight = block.same_weight_in_every_row ? block.weight[k] : block.weight[k * (end - begin) + n - begin];
        if (weight == 0) continue;
        const double shift = __builtin_log(static_cast<double>(weight)) - log_sum_exp(block.teachers[k], n, classes);
        for (std::size_t c = 0; c < classes; ++c) {
            const double x = logit_at(block.teachers[k], n, classes, c) + shift;
            if (x == -__builtin_inf()) continue;
            if (x > maximum[c]) {
                sum[c] = sum[c] * __builtin_exp(maximum[c] - x) + 1;
                maximum[c] = x;
            } else {
                sum[c] += __builtin_exp(x - maximum[c]);
            }
        }
    }
    for (std::size_t c = 0; c < classes; ++c) {
        block.out[n * classes + c] = static_cast<float>(maximum[c] + __builtin_log(sum[c]));
    }
}

}  // namespace

// The distillation loss of FedAgg (arXiv 2312.11489, eq. 2) and its gradient, checked and batched.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fedagg/kernels.h"

namespace fedagg {

// loss = ce_weight * mean CE(softmax(student), labels)
//      + kl_weight * mean KL between softmax(teacher / teacher_temperature) and softmax(student / temperature)
// No hidden temperature^2: Hinton's form is kl_weight = beta * temperature^2.
struct DistillOptions {
    double ce_weight = 1;
    double kl_weight = 0;
    double temperature = 3;
    double teacher_temperature = 3;
    Divergence divergence = Divergence::forward;  // ignored without a teacher
    unsigned threads = 1;
};

template <class Real>
struct DistillInput {
    const Real* student = nullptr;         // [rows, classes]
    Logits teacher;                        // data == nullptr: no teacher; f64 if and only if Real is double
    const std::int64_t* labels = nullptr;  // [rows] or null
    const std::uint8_t* mask = nullptr;    // [rows] or null; 0 leaves the row out
    const float* row_weights = nullptr;    // [rows] or null; finite, not negative
    std::size_t rows = 0;
    std::size_t classes = 0;
};

// Means over the rows that count, weighted by row_weights. All 0 when no row counts.
struct DistillLoss {
    double loss = 0;
    double ce = 0;
    double kl = 0;
};

// Writes d loss / d student to gradient [rows, classes], which may be the student's own array.
// Throws ArgumentError for a label outside [0, classes), a temperature or weight that is not usable, or labels or a
// teacher that a non-zero weight needs and that are missing. Nothing is written then.
DistillLoss distill_loss(const DistillInput<float>& input, const DistillOptions& options, float* gradient);
DistillLoss distill_loss(const DistillInput<double>& input, const DistillOptions& options, double* gradient);

}  // namespace fedagg

// The contract between the checked calls and the kernels: one table of function pointers per instruction set.
//
// Every kernel works on rows [begin, end) of arrays that its caller has checked; it throws nothing, allocates nothing
// and may be run on disjoint row ranges from several threads. A NaN anywhere in a row makes that row's results NaN.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fedagg/types.h"

namespace fedagg {

enum class Divergence : std::uint8_t {
    none,     // no teacher
    forward,  // KL(teacher || student)
    reverse,  // KL(student || teacher)
};

// One batch of the distillation loss. Row n contributes
//     w_n * (ce_scale * CE_n + kl_scale * KL_n)
// to the loss whose gradient with respect to the student's logits is written; w_n is row_weight[n], or 1 without
// weights. A row of weight 0 is left out: its gradient is 0 whatever it holds, and its label is never read.
// `gradient` may be the student's own array; otherwise it overlaps no input.
template <class Real>
struct DistillBatch {
    const Real* student = nullptr;
    Logits teacher;                        // read when divergence is not none; f64 if and only if Real is double
    const std::int64_t* labels = nullptr;  // no cross-entropy when null
    const float* row_weight = nullptr;
    Real* gradient = nullptr;
    std::size_t classes = 0;
    Divergence divergence = Divergence::none;
    double student_temperature = 1;
    double teacher_temperature = 1;
    double ce_scale = 0;
    double kl_scale = 0;
    bool larger_than_cache = false;  // prefetch, and write the gradient past the caches
};

// Sums over rows of w_n * CE_n and w_n * KL_n.
struct DistillSums {
    double ce = 0;
    double kl = 0;
};

// One block of an aggregation over K teachers. weight[k * rows + (n - begin)] already holds the normalised weight of
// teacher k for row n, rows = end - begin; 0 leaves the teacher out of that row whatever it holds.
struct AggregateBlock {
    const Logits* teachers = nullptr;
    std::size_t teacher_count = 0;
    const float* weight = nullptr;
    bool same_weight_in_every_row = false;  // then row 0's weights are used, and rows may be treated as one run
    float* out = nullptr;                   // [N, C], indexed by absolute row
    std::size_t classes = 0;
    double trim = 0;      // order_mean_rows: the share of teachers left out at either end; below 0.5
    bool median = false;  // order_mean_rows: leave out all but the middle one or two instead
};

// One step of stochastic gradient descent, as torch.optim.SGD without dampening takes it.
struct SgdStep {
    float learning_rate = 0;
    float momentum = 0;  // velocity is null when and only when this is 0
    float weight_decay = 0;
    bool nesterov = false;
};

struct Kernels {
    const char* name;

    // floats of 64-byte aligned scratch that the row kernels below need for C classes and K teachers
    std::size_t (*scratch_floats)(std::size_t classes, std::size_t teachers);

    void (*f32_distill_rows)(const DistillBatch<float>&, std::size_t begin, std::size_t end, float* scratch,
                             DistillSums&);

    void (*mean_logits_rows)(const AggregateBlock&, std::size_t begin, std::size_t end, float* scratch);
    // out = log(sum_k w_k softmax(z_k))
    void (*mean_probabilities_rows)(const AggregateBlock&, std::size_t begin, std::size_t end, float* scratch);

    // for every element the mean of its middle values over the teachers of weight above 0
    void (*order_mean_rows)(const AggregateBlock&, std::size_t begin, std::size_t end, float* scratch);
    // out[n - begin] = exp(-entropy(softmax(z_n))), from 1 / C to 1
    void (*confidence_rows)(const Logits&, std::size_t classes, std::size_t begin, std::size_t end, float* scratch,
                            float* out);

    void (*f32_to_f16)(const float* x, std::size_t count, std::uint16_t* out);
    void (*f16_to_f32)(const std::uint16_t* x, std::size_t count, float* out);
    // symmetric: scale = max|x| / 127; a row that holds a NaN or an infinity gets scale NaN and bytes 0
    void (*f32_to_i8_rows)(const float* x, std::size_t rows, std::size_t classes, std::int8_t* out, float* row_scale);
    void (*i8_to_f32_rows)(const std::int8_t* x, const float* row_scale, std::size_t rows, std::size_t classes,
                           float* out);
    // code = clamp(round_half_even((x - low) / step), 0, top), top at most 255; returns whether every x was finite
    bool (*f32_to_affine_rows)(const float* x, const float* low, const float* step, const float* top,
                               std::size_t rows, std::size_t channels, std::uint8_t* out);
    void (*affine_to_f32_rows)(const std::uint8_t* x, const float* low, const float* step, std::size_t rows,
                               std::size_t channels, float* out);

    void (*f32_sgd_run)(float* parameters, const float* gradient, float* velocity, std::size_t count, const SgdStep&);
};

// The table of an instruction set that this build holds; which of them this CPU runs is cpu.h's business.
extern const Kernels kernels_scalar;
#if defined(FEDAGG_HAVE_AVX2)
extern const Kernels kernels_avx2;
#endif
#if defined(FEDAGG_HAVE_AVX512)
extern const Kernels kernels_avx512;
#endif
#if defined(FEDAGG_HAVE_NEON)
extern const Kernels kernels_neon;
#endif

// The scalar kernel in double: what gradient checks by finite differences run.
void f64_distill_rows_scalar(const DistillBatch<double>&, std::size_t begin, std::size_t end, double* scratch,
                             DistillSums&);

}  // namespace fedagg

// The table that an instruction set's file exports: every kernel instantiated for its vector wrapper.
#pragma once

#include "aggregate.inl.h"
#include "codec.inl.h"
#include "distill.inl.h"
#include "order.inl.h"
#include "sgd.inl.h"

namespace {

// floats of scratch for any kernel of this table
template <class V>
std::size_t kernel_scratch(std::size_t classes, std::size_t teachers) {
    std::size_t most = distill_scratch<V>(classes);
    if (most < 4 * padded(classes)) most = 4 * padded(classes);        // exact_log_mean_row, one teacher's row
    const std::size_t block = classes <= most_aggregate_block_classes ? 3 * V::width * classes : 0;
    if (most < block) most = block;                              // mean_probabilities_rows, confidence_rows
    if (most < teachers * V::width) most = teachers * V::width;  // order_mean_rows
    return most;
}

template <class V>
constexpr fedagg::Kernels kernel_table(const char* name) {
    return {name,
            kernel_scratch<V>,
            softmax_kl_rows<V>,
            mean_logits_rows<V>,
            mean_probabilities_rows<V>,
            order_mean_rows<V>,
            confidence_rows<V>,
            f32_to_f16<V>,
            f16_to_f32<V>,
            f32_to_i8_rows<V>,
            i8_to_f32_rows<V>,
            f32_to_affine_rows<V>,
            affine_to_f32_rows<V>,
            f32_sgd_run<V>};
}

}  // namespace

// Stochastic gradient descent over one flat buffer: parameters, gradient and velocity are read and written once.
#pragma once

#include "../fedagg/kernels.h"
#include "inline.h"

namespace {

using namespace fedagg;  // the contract's names; this file is only ever included by a kernel file

template <class V, bool has_momentum>
FEDAGG_INLINE void sgd_vector(float* parameters, const float* gradient, float* velocity, std::size_t count,
                              const SgdStep& step) {
    using F = typename V::F;
    const F zero = V::set1(0);
    const F p = V::load_first(parameters, count, zero);
    F g = V::fma(V::set1(step.weight_decay), p, V::load_first(gradient, count, zero));
    if constexpr (has_momentum) {
        const F v = V::fma(V::set1(step.momentum), V::load_first(velocity, count, zero), g);
        V::store_first(velocity, v, count);
        g = step.nesterov ? V::fma(V::set1(step.momentum), v, g) : v;
    }
    V::store_first(parameters, V::fma(V::set1(-step.learning_rate), g, p), count);
}

template <class V, bool has_momentum>
void sgd_all(float* parameters, const float* gradient, float* velocity, std::size_t count, const SgdStep& step) {
    constexpr std::size_t w = V::width;
    std::size_t i = 0;
    for (; i + w <= count; i += w) {
        sgd_vector<V, has_momentum>(parameters + i, gradient + i, has_momentum ? velocity + i : nullptr, w, step);
    }
    if (i < count) {
        sgd_vector<V, has_momentum>(parameters + i, gradient + i, has_momentum ? velocity + i : nullptr, count - i, step);
    }
}

// f32_sgd_run__<isa>
template <class V>
void f32_sgd_run(float* parameters, const float* gradient, float* velocity, std::size_t count, const SgdStep& step) {
    if (step.momentum != 0) return sgd_all<V, true>(parameters, gradient, velocity, count, step);
    sgd_all<V, false>(parameters, gradient, nullptr, count, step);
}

}  // namespace
